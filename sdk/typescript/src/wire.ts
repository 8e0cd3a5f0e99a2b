// Turns values of the wire into those of clients and back, as the generated shapes say. Only what a schema names is touched:
// a mark of the builder's own that is called `createdAt` stays the text that it is.
import { shapes } from "./generated/shapes.js";

type Fields = Record<string, unknown>;

/** A value of the wire as a client has it. Absent is absent, also where the wire says `null`. */
export function read<T>(value: unknown, schema: string): T {
  return each(value, schema, (fields, shape) => {
    for (const field of shape.dates ?? []) {
      if (typeof fields[field] === "string") fields[field] = new Date(fields[field]);
    }
    for (const [wire, own] of Object.entries(shape.names ?? {})) rename(fields, wire, own);
  }) as T;
}

/** A client's value as the wire has it. */
export function write(value: unknown, schema: string): unknown {
  return each(value, schema, (fields, shape) => {
    for (const [wire, own] of Object.entries(shape.names ?? {})) rename(fields, own, wire);
  });
}

function rename(fields: Fields, from: string, to: string): void {
  if (fields[from] === undefined) return;
  fields[to] = fields[from];
  delete fields[from];
}

function each(value: unknown, schema: string, change: (fields: Fields, shape: NonNullable<(typeof shapes)[string]>) => void): unknown {
  if (Array.isArray(value)) return value.map((one) => each(one, schema, change));
  if (typeof value !== "object" || value === null) return value ?? undefined;
  const fields: Fields = {};
  for (const [name, inner] of Object.entries(value)) {
    if (inner !== null && inner !== undefined) fields[name] = inner;
  }
  for (let shape = shapes[schema]; shape; shape = shape.base ? shapes[shape.base] : undefined) {
    for (const [field, of] of Object.entries(shape.inner ?? {})) {
      if (fields[field] !== undefined) fields[field] = each(fields[field], of, change);
    }
    change(fields, shape);
  }
  return fields;
}
