/**
 * Reads the paths of modules, and prints what each imports, as TypeScript's own
 * parser has it. A process of its own, for the parser asks for the environment.
 *
 * @module
 */

import ts from "typescript";
import type { Import } from "./imports_of.ts";

function importsIn(path: string): Import[] {
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      if (node.moduleSpecifier !== undefined) {
        const type = node.attributes?.elements.find(({ name }) => name.text === "type")?.value;
        found.push({
          specifier: literal(node.moduleSpecifier),
          type: literal(type),
          isDynamic: false,
        });
      }
    } else if (ts.isImportTypeNode(node)) {
      const { argument } = node;
      const specifier = ts.isLiteralTypeNode(argument) ? literal(argument.literal) : undefined;
      found.push({ specifier, type: undefined, isDynamic: false });
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [specifier, options] = node.arguments;
      // Written out or not: with anything but a literal nobody knows beforehand.
      const type = options === undefined
        ? undefined
        : /type:\s*"(\w+)"/.exec(options.getText())?.[1];
      found.push({ specifier: literal(specifier), type, isDynamic: true });
    }
    ts.forEachChild(node, visit);
  };
  const text = Deno.readTextFileSync(path);
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return found;
}

function literal(node: ts.Node | undefined): string | undefined {
  return node !== undefined && ts.isStringLiteralLike(node) ? node.text : undefined;
}

const paths: string[] = await new Response(Deno.stdin.readable).json();
// deno-lint-ignore no-console -- the answer
console.log(JSON.stringify(paths.map(importsIn)));
