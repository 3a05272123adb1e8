/** How the content of a local file comes; what is refused or gone, `test/e2e` and the folder source show. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openFile } from '../../src/archive/local-item.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { removeFolder } from '../kit/local-tree.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'firn-local-item-'));
afterAll(() => removeFolder(folder));

async function piecesOf(content: Buffer, transientPieces: boolean) {
  const local = path.join(folder, 'file');
  await writeFile(local, content);
  const opened = await openFile({ entryPath: 'file', local, pace: undefined, transientPieces });
  if (opened.type !== 'file') throw new Error(`It is ${opened.type}.`);
  const pieces: Buffer[] = [];
  const copies = await Array.fromAsync(opened.content, (piece) => {
    pieces.push(piece);
    return Buffer.from(piece);
  });
  expect(await opened.unchanged()).toBe(true);
  return { pieces, copies };
}

const content = pseudoRandomBytes(1, 3_500_000);

it('gives pieces that can be kept', async () => {
  const { pieces } = await piecesOf(content, false);
  expect(pieces.length).toBeGreaterThan(2);
  expect(Buffer.concat(pieces).equals(content)).toBe(true);
});

it('gives them in one buffer to a reader that keeps none', async () => {
  const { pieces, copies } = await piecesOf(content, true);
  expect(Buffer.concat(copies).equals(content)).toBe(true);
  expect(new Set(pieces.map(({ buffer }) => buffer)).size).toBe(1);
});
