// Writes src/generated/ from the API's document, docs/openapi.json. With --check it writes nothing and fails where what
// is there differs.
//
// The document is read as a client sees it: what is `null` on the wire is absent here, moments are `Date`, and `volumeGB` is
// `volumeGb`, as the published client has it. `shapes.ts` says where values have to be turned from one form into the other.
import { readFile, writeFile, mkdir } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const source = new URL("../../../docs/openapi.json", import.meta.url);
const target = new URL("../src/generated/", import.meta.url);
const renamed = { volumeGB: "volumeGb" };

const isNull = (schema) => schema?.type === "null";

/** The same document with neither nulls nor names of the wire. */
function forClients(node) {
  if (Array.isArray(node)) return node.map(forClients);
  if (node === null || typeof node !== "object") return node;
  const copy = {};
  for (const [key, value] of Object.entries(node)) {
    if (key === "properties") {
      copy[key] = Object.fromEntries(Object.entries(value).map(([name, schema]) => [renamed[name] ?? name, forClients(schema)]));
    } else {
      copy[key] = forClients(value);
    }
  }
  if (Array.isArray(copy.type)) {
    const types = copy.type.filter((type) => type !== "null");
    copy.type = types.length === 1 ? types[0] : types;
  }
  if (copy.oneOf?.some(isNull)) {
    const [only, ...more] = copy.oneOf.filter((one) => !isNull(one));
    if (more.length > 0) throw new Error("a choice of several and null");
    delete copy.oneOf;
    return { ...copy, ...only };
  }
  return copy;
}

/** Where the schemas of the wire hold moments, other names, or schemas that do. */
function shapesOf(schemas) {
  const shapes = {};
  const reference = (schema) => {
    const found = schema?.$ref ?? schema?.items?.$ref ?? schema?.oneOf?.find((one) => one.$ref)?.$ref;
    return found?.split("/").pop();
  };
  for (const [name, schema] of Object.entries(schemas)) {
    const shape = { dates: [], names: {}, inner: {}, base: undefined };
    const parts = schema.allOf ?? [schema];
    for (const part of parts) {
      if (part.$ref) shape.base = reference(part);
      for (const [field, value] of Object.entries(part.properties ?? {})) {
        if (value.format === "date-time") shape.dates.push(field);
        if (renamed[field]) shape.names[field] = renamed[field];
        if (reference(value)) shape.inner[field] = reference(value);
      }
    }
    shapes[name] = shape;
  }
  // Only those that matter stay.
  const matters = (name, seen = new Set()) => {
    const shape = shapes[name];
    if (!shape || seen.has(name)) return false;
    seen.add(name);
    return (
      shape.dates.length > 0 ||
      Object.keys(shape.names).length > 0 ||
      (shape.base !== undefined && matters(shape.base, seen)) ||
      Object.values(shape.inner).some((inner) => matters(inner, seen))
    );
  };
  return Object.fromEntries(
    Object.entries(shapes)
      .filter(([name]) => matters(name))
      .map(([name, shape]) => {
        const inner = Object.fromEntries(Object.entries(shape.inner).filter(([, of]) => matters(of)));
        const kept = {};
        if (shape.base && matters(shape.base)) kept.base = shape.base;
        if (shape.dates.length > 0) kept.dates = shape.dates;
        if (Object.keys(shape.names).length > 0) kept.names = shape.names;
        if (Object.keys(inner).length > 0) kept.inner = inner;
        return [name, kept];
      }),
  );
}

const head = "// Generated from docs/openapi.json by scripts/generate.mjs: do not edit.\n\n";
const document = JSON.parse(await readFile(source, "utf8"));
const date = ts.factory.createTypeReferenceNode(ts.factory.createIdentifier("Date"));
const types = await openapiTS(forClients(document), {
  transform: (schema) => (schema.format === "date-time" ? date : undefined),
  defaultNonNullable: false,
});
const shape = "export interface Shape {\n  readonly base?: string;\n  readonly dates?: readonly string[];\n  readonly names?: Readonly<Record<string, string>>;\n  readonly inner?: Readonly<Record<string, string>>;\n}\n\n";
const files = {
  "schema.ts": head + astToString(types),
  "shapes.ts": `${head}/** Where a value of the wire holds moments (\`dates\`), fields that clients name otherwise (\`names\`), and values that do (\`inner\`). */\n${shape}export const shapes: Readonly<Record<string, Shape>> = ${JSON.stringify(shapesOf(document.components.schemas), null, 2)};\n`,
};

await mkdir(target, { recursive: true });
for (const [name, text] of Object.entries(files)) {
  const file = new URL(name, target);
  if (process.argv.includes("--check")) {
    if ((await readFile(file, "utf8").catch(() => "")) !== text) {
      console.error(`src/generated/${name} is not what docs/openapi.json says: run \`npm run generate\` and commit it`);
      process.exitCode = 1;
    }
  } else {
    await writeFile(file, text);
  }
}
