// Validate objects against models: their fields by the TypeScript compiler, which refuses those that a model lacks,
// their values by the models themselves. Reads {name: [object, ...]} as JSON, writes {name: [problem, ...]}.
// Runs in .venv-checks/npm: node --input-type=module --eval "$(cat models.mjs)"
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import ts from "typescript";

const PACKAGES = {
  "argoproj.io": "@kubernetes-models/argo-workflows", // without Argo Events
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

// apps/v1 of Kubernetes itself lies in its own package, without the part of the group after its first point
const moduleOf = ({ apiVersion, kind }) => {
  const group = apiVersion.split("/")[0];
  return `${PACKAGES[group] ?? "kubernetes-models"}/${apiVersion}/${kind}`;
};

const variants = JSON.parse(readFileSync(0, "utf8"));
const found = Object.fromEntries(Object.keys(variants).map((name) => [name, []]));
const lines = ["export {};"]; // a module, in which each line is one object
const owners = [null]; // the variant of each line
for (const [name, documents] of Object.entries(variants)) {
  for (const document of documents) {
    const path = moduleOf(document);
    let model;
    try {
      model = (await import(path))[document.kind];
    } catch {
      found[name].push(`${document.kind}: there is no ${document.apiVersion}`);
      continue;
    }
    try {
      new model(document).validate();
    } catch (error) {
      found[name].push(`${document.kind}: ${error.message}`);
    }
    lines.push(`const v${lines.length}: import("${path}").I${document.kind} = ${JSON.stringify(document)};`);
    owners.push(name);
  }
}

const file = resolve("objects.ts"); // it is never written
const options = {
  ...{ strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, types: [] },
  ...{ module: ts.ModuleKind.Preserve, moduleResolution: ts.ModuleResolutionKind.Bundler },
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists } = host;
host.fileExists = (path) => path === file || fileExists(path);
host.getSourceFile = (path, ...rest) =>
  path === file ? ts.createSourceFile(path, lines.join("\n"), options.target) : getSourceFile(path, ...rest);
for (const problem of ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))) {
  const text = ts.flattenDiagnosticMessageText(problem.messageText, " ");
  if (problem.file?.fileName !== file) throw new Error(text);
  found[owners[problem.file.getLineAndCharacterOfPosition(problem.start).line]].push(text);
}
process.stdout.write(JSON.stringify(found));
