import type { components } from "./generated/schema.js";

/** The body of a failure (RFC 9457). */
export type Problem = components["schemas"]["Problem"];
/** Every problem code of this version; a server may be newer and have more. */
export type ProblemCode = components["schemas"]["ErrorCode"];

/** A call that failed: with a `statusCode` where the server answered, without one where it could not be reached. */
export class CakeworkApiError extends Error {
  readonly statusCode?: number;
  /** The answer's body: a {@link Problem} where the server gave one, else its text. */
  readonly body?: unknown;
  /** The body, where it is a problem. */
  readonly problem?: Problem;
  /** Time that the server asks to wait before the next try, in seconds. */
  readonly retryAfterSeconds?: number;

  constructor(what: { message?: string; statusCode?: number; body?: unknown; retryAfterSeconds?: number; cause?: unknown }) {
    const problem = isProblem(what.body) ? what.body : undefined;
    const said = problem && [problem.detail || problem.title, problem.fix].filter(Boolean).join(" ");
    super(said ?? what.message ?? `status ${what.statusCode}`, what.cause === undefined ? undefined : { cause: what.cause });
    this.name = new.target.name;
    if (what.statusCode !== undefined) this.statusCode = what.statusCode;
    if (what.body !== undefined) this.body = what.body;
    if (problem !== undefined) this.problem = problem;
    if (what.retryAfterSeconds !== undefined) this.retryAfterSeconds = what.retryAfterSeconds;
  }

  /** The word to branch on. */
  get code(): ProblemCode | undefined {
    return this.problem?.code;
  }

  /** What names the call in the server's log. */
  get requestId(): string | undefined {
    return this.problem?.requestId;
  }
}

/** 400: the request can't be carried out as it is. */
export class BadRequest extends CakeworkApiError {}
/** 401: the key is missing, wrong, revoked or expired. */
export class UnauthorizedError extends CakeworkApiError {}
/** 403: the key's scope or the account's quota does not allow it. */
export class ForbiddenError extends CakeworkApiError {}
/** 404: there is no such thing, or it is another account's. */
export class DoesNotExistError extends CakeworkApiError {}
/** 409: the thing's state does not allow it. */
export class ConflictError extends CakeworkApiError {}
/** 429: too much at once. */
export class TooManyRequestsError extends CakeworkApiError {}
/** 500: the operator finds the cause under `requestId`. */
export class InternalServerError extends CakeworkApiError {}
/** 503: it can't be done at present. */
export class UnavailableError extends CakeworkApiError {}

/** A call that did not end in its time. What it asked for may have been done. */
export class CakeworkApiTimeoutError extends Error {
  constructor(message = "Timeout") {
    super(message);
    this.name = "CakeworkApiTimeoutError";
  }
}

/** A build that was waited for and failed. */
export class BuildFailedError extends Error {
  constructor(readonly build: components["schemas"]["Build"]) {
    const { error } = build;
    const place = error?.line ? ` (line ${error.line})` : "";
    super(error ? `${error.message}${place}` : `the build ${build.buildId} failed`);
    this.name = "BuildFailedError";
  }
}

const classes: Record<number, typeof CakeworkApiError> = {
  400: BadRequest,
  401: UnauthorizedError,
  403: ForbiddenError,
  404: DoesNotExistError,
  409: ConflictError,
  429: TooManyRequestsError,
  500: InternalServerError,
  503: UnavailableError,
};

/** The error of an answer. */
export function failure(statusCode: number, body: unknown, retryAfterSeconds?: number): CakeworkApiError {
  const Class = classes[statusCode] ?? CakeworkApiError;
  return new Class({ statusCode, body, retryAfterSeconds });
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && typeof (body as Problem).code === "string";
}
