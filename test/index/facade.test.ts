import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

test('no other folder imports shards, caches or the writing session, only the index, its marker and its repair', () => {
  const files = globSync('{src,functions}/**/*.ts', { cwd: root }).filter((file) => !/^src[\\/]index[\\/]/.test(file));
  const imports = files.flatMap((file) =>
    [...readFileSync(path.join(root, file), 'utf8').matchAll(/from '[./\w-]*\/index\/([\w-]+)\.ts'/g)].map(
      ([, name = '']) => ({ file, name }),
    ),
  );
  expect(imports.length).toBeGreaterThan(5);
  expect(imports.filter(({ name }) => !/^(chunk-index|marker|repair(-\w+)*)$/.test(name))).toEqual([]);
});
