import { defineConfig, type UserConfig } from "tsdown";

// One file of each kind, with what little of others' code it needs inside: whoever installs it installs nothing else, and a
// page may load the file as it is.
const shared: UserConfig = {
  entry: { index: "src/index.ts" },
  platform: "neutral",
  target: "es2022",
  fixedExtension: false,
  inputOptions: { resolve: { mainFields: ["module", "main"] } },
  deps: { alwaysBundle: ["eventsource-parser", "standardwebhooks"] },
};

export default defineConfig([
  { ...shared, format: ["esm", "cjs"], dts: false },
  { ...shared, format: ["esm", "cjs"], dts: { emitDtsOnly: true }, clean: false },
]);
