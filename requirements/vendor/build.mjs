// Writes the chat page's libraries, each as one ES module, with a manifest of what they are: `make vendor`.
//
//     node build.mjs FOLDER_WITH_NODE_MODULES TARGET

import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [root, target] = process.argv.slice(2).map((path) => resolve(path));
const { build } = createRequire(join(root, "package.json"))("esbuild");
const modules = join(root, "node_modules");

const LANGUAGES = [
  "bash", "c", "cpp", "csharp", "css", "diff", "dockerfile", "go", "ini", "java", "javascript", "json", "kotlin",
  "lua", "makefile", "markdown", "php", "powershell", "python", "r", "ruby", "rust", "scss", "shell", "sql", "swift",
  "typescript", "xml", "yaml",
];

const HIGHLIGHT = [
  'import core from "highlight.js/lib/core";',
  ...LANGUAGES.map((name, index) => `import l${index} from "highlight.js/lib/languages/${name}";`),
  ...LANGUAGES.map((name, index) => `core.registerLanguage(${JSON.stringify(name)}, l${index});`),
  "export default core;",
].join("\n");

/** Each module: its file, the package that it is of, and what is bundled. */
const BUNDLES = [
  ["markdown-it.js", "markdown-it", 'export { default } from "markdown-it";'],
  ["purify.js", "dompurify", 'export { default } from "dompurify";'],
  ["highlight.js", "highlight.js", HIGHLIGHT],
  ["temml.js", "temml", 'export { default } from "temml";'],
];

/** What is taken as it is. */
const COPIES = [
  ["temml.css", "temml", "dist/Temml-Local.css"],
  ["Temml.woff2", "temml", "dist/Temml.woff2"],
  ["NotoSansMath.woff2", "@fontsource/noto-sans-math", "files/noto-sans-math-latin-400-normal.woff2"],
];

const about = (name) => JSON.parse(readFileSync(join(modules, name, "package.json"), "utf8"));
const sha256 = (file) => createHash("sha256").update(readFileSync(join(target, file))).digest("hex");

/** Bundle a module and return the packages whose code is in it. */
async function bundle(file, contents) {
  const result = await build({
    stdin: { contents, resolveDir: root },
    absWorkingDir: root,
    outfile: join(target, file),
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
  });
  const inputs = Object.keys(Object.values(result.metafile.outputs)[0].inputs);
  const names = inputs.map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1]);
  return [...new Set(names.filter(Boolean))].sort();
}

/** Copy a package's licence and return its name in `licences/`. */
function licence(name) {
  const [file] = readdirSync(join(modules, name)).filter((entry) => /^licen[cs]e([-.](MIT|txt|md).*)?$/i.test(entry)).sort();
  const copy = `licences/${name.replace("/", "+")}.txt`;
  copyFileSync(join(modules, name, file), join(target, copy));
  return copy;
}

rmSync(target, { recursive: true, force: true });
mkdirSync(join(target, "licences"), { recursive: true });
const files = [];
const contained = new Set();
for (const [file, name, contents] of BUNDLES) {
  const packages = await bundle(file, contents);
  packages.forEach((each) => contained.add(each));
  files.push({ file, name, packages });
}
for (const [file, name, source] of COPIES) {
  copyFileSync(join(modules, name, source), join(target, file));
  contained.add(name);
  files.push({ file, name, packages: [name] });
}
const manifest = {
  files: files.map(({ file, name, packages }) => ({
    file, name, version: about(name).version, licence: about(name).license, packages, sha256: sha256(file),
  })),
  packages: [...contained].sort().map((name) => {
    const { version, license } = about(name);
    const file = licence(name);
    return { name, version, licence: license, file, sha256: sha256(file) };
  }),
};
writeFileSync(join(target, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
