/**
 * Every Bicep file follows the grammar of Bicep, also where there is no compiler. The grammar is that of tree-sitter, run as
 * WebAssembly. It knows no types, and no names or properties of resources: only a compiler does.
 */
import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Language, type Node, Parser } from 'web-tree-sitter';

const infra = fileURLToPath(new URL('../../infra/', import.meta.url));
const textOf = (file: string): string => readFileSync(path.join(infra, file), 'utf8');
const parses = 'every template parses without an error by the grammar of Bicep';
const seesMistakes = 'a template in which one sign is missing does not parse, whichever it is';

const grammar = findGrammar();
if (grammar === undefined) {
  const reason = 'npm did not install tree-sitter-bicep, whose install script fails on some systems';
  process.stderr.write(`SKIPPED: no Bicep file was parsed: ${reason}\n`);
  test.skip(`${parses}. SKIPPED: ${reason}`, () => {});
  test.skip(`${seesMistakes}. SKIPPED: ${reason}`, () => {});
} else {
  await Parser.init();
  const parser = new Parser().setLanguage(await Language.load(grammar));

  test(parses, () => {
    const files = globSync('**/*.bicep', { cwd: infra });
    expect(files).toContain('main.bicep');
    expect(files.flatMap((file) => mistakesIn(parser, textOf(file), `infra/${file}`))).toEqual([]);
  });

  test(seesMistakes, () => {
    const source = textOf('modules/event-topic.bicep');
    const signs = parse(parser, source).descendantsOfType(['{', '}', '[', ']', '(', ')', ':', '=', "'"]);
    expect(signs.length).toBeGreaterThan(50);
    const without = ({ startIndex: at }: Node): string => source.slice(0, at) + source.slice(at + 1);
    const unseen = signs.filter((sign) => mistakesIn(parser, without(sign), 'a.bicep').length === 0);
    expect(unseen.map(({ type, startPosition }) => ({ type, ...startPosition }))).toEqual([]);
    expect(mistakesIn(parser, 'var one = {\n  two: [\n  }\n}\n', 'a.bicep')).toEqual([
      'a.bicep:2:3: «two: [» is not understood',
    ]);
    expect(mistakesIn(parser, 'var one = {\n  two: 2\n', 'a.bicep')).toEqual(['a.bicep:2:9: «}» is missing']);
  });
}

/** @returns the path of the grammar as WebAssembly, or undefined where the package is not installed. */
function findGrammar(): string | undefined {
  try {
    return createRequire(import.meta.url).resolve('tree-sitter-bicep/tree-sitter-bicep.wasm');
  } catch {
    return undefined;
  }
}

function parse(parser: Parser, source: string): Node {
  const tree = parser.parse(source);
  if (tree === null) throw new Error('the parser gave up');
  return tree.rootNode;
}

/** @returns what does not follow the grammar, with file, line and column (both from 1). */
function mistakesIn(parser: Parser, source: string, file: string): string[] {
  const mistakesBelow = (node: Node): string[] => {
    if (!node.hasError) return [];
    const below = node.children.flatMap(mistakesBelow);
    if (!node.isError && !node.isMissing) return below;
    const { row, column } = node.startPosition;
    const what = node.isMissing ? `«${node.type}» is missing` : `«${node.text.split('\n')[0]}» is not understood`;
    return [`${file}:${row + 1}:${column + 1}: ${what}`, ...below];
  };
  return mistakesBelow(parse(parser, source));
}
