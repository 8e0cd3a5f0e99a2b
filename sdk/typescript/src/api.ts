// The types of the API, under the names that the published client gave them where it had them.
import type { components, operations } from "./generated/schema.js";

export {
  BadRequest,
  BuildFailedError,
  ConflictError,
  DoesNotExistError,
  ForbiddenError,
  InternalServerError,
  TooManyRequestsError,
  UnauthorizedError,
  UnavailableError,
} from "./errors.js";
export type { Problem, ProblemCode } from "./errors.js";

type Schemas = components["schemas"];
type Query<Operation extends keyof operations> = NonNullable<operations[Operation]["parameters"]["query"]>;
/** Marks are filters of a name of their own each. */
type Marked<Parameters> = Omit<Parameters, "metadata.KEY"> & {
  /** Only those with all of these marks. */
  metadata?: Record<string, string>;
};
/** A variable that is `undefined` is left out. */
type Variables<Input> = Omit<Input, "envVars"> & { envVars?: Record<string, string | undefined> };

export type ImageId = string;
export type BuildId = string;
export type VmId = string;
export type CachedVmId = string;
export type WebhookId = string;

export type ImportImageInput = Schemas["ImportImage"];
/** What importing answers. */
export type Image = Schemas["ImportedImage"];
/** All that is known of an image. */
export type ImageInfo = Schemas["Image"];
export type ImageList = Schemas["ImageList"];
export type ListImagesRequest = Query<"listImages">;

export type File = Schemas["BuildFile"];
export type BuildImageFromFilesInput = Schemas["BuildImageFromFiles"];
export type BuildImageFromGithubInput = Schemas["BuildImageFromGithub"];
export type Build = Schemas["Build"];
export type BuildList = Schemas["BuildList"];
export type ListBuildsRequest = Marked<Query<"listBuilds">>;

export type StartVmInput = Variables<Schemas["StartVm"]>;
export type CacheVmInput = Variables<Schemas["CacheVm"]>;
export type Vm = Schemas["Vm"];
export type CachedVm = Vm;
export type VmState = Schemas["VmState"];
export type Start = Schemas["Start"];
export type ListVMsRequest = Marked<Query<"listVMs">>;
export type ListVMsResponse = Schemas["VmList"];

export type Line = Schemas["LogLine"];
export type VmLogs = Schemas["Logs"];
export type BuildLogs = Schemas["Logs"];
export type CachedVmLogs = Schemas["Logs"];
export type GetVmLogsRequest = Omit<Query<"getVMLogs">, "follow" | "order"> & { order?: "oldest_first" | "newest_first" | (string & {}) };
export type GetBuildLogsRequest = GetVmLogsRequest;
export type FoundLine = Schemas["FoundLine"] & Line;
export type FoundLogs = Omit<Schemas["FoundLogs"], "lines"> & { lines: FoundLine[] };
export type SearchLogsRequest = Marked<Query<"searchLogs">>;

export type ExecInput = Variables<Schemas["Exec"]>;
export type ExecResult = Schemas["ExecResult"];
export type ExecExit = Schemas["ExecExit"];
export type ExecTicket = Schemas["ExecTicket"];
export type FileEntry = Schemas["FileEntry"];
export type FileList = Schemas["FileList"];

export type Registry = Schemas["Registry"];
export type PutRegistryInput = Schemas["PutRegistry"];

export type CreateWebhookInput = Schemas["CreateWebhook"];
export type Webhook = Schemas["Webhook"];
/** An endpoint with its secret, which is shown this once. */
export type WebhookWithSecret = Schemas["WebhookSecret"] & Webhook;
export type Delivery = Schemas["Delivery"];
export type DeliveryList = Schemas["DeliveryList"];
export type ListDeliveriesRequest = Query<"listWebhookDeliveries">;
/** What an endpoint is sent. */
export type Event = Schemas["Event"];
/** The published client's name of a build's event, of which it knew these two fields. */
export type BuildWebhook = Required<Pick<Event, "buildId" | "imageId">>;
