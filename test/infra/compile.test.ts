/** Every Bicep file compiles and lints without a warning, where there is a compiler. */
import { globSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { complaintsAbout, findCompiler } from './compiler.ts';

const infra = fileURLToPath(new URL('../../infra/', import.meta.url));
const files = globSync('**/*.bicep', { cwd: infra });
const compiler = await findCompiler();

if ('missing' in compiler) {
  process.stderr.write(`SKIPPED: no Bicep file was compiled: ${compiler.missing}\n`);
  test.skip(`every Bicep file compiles and lints without a warning. SKIPPED: ${compiler.missing}`, () => {});
} else {
  test.each(files)('infra/%s compiles and lints without a warning', async (file) => {
    expect(await complaintsAbout(compiler.program, path.join(infra, file))).toBe('');
  });
}
