import { expect, test } from 'vitest';
import { parseUploadReference } from '../../functions/shared/upload-reference.ts';

const dataOf = (content: unknown) => ({ content: Buffer.from(JSON.stringify(content)) });

test('a reference names its blob, whatever is in the name', () => {
  const reference = { Connection: 'FIRN_STORAGE', ContainerName: 'firn-inbox', BlobName: 'src/née\n雪' };
  expect(parseUploadReference(dataOf(reference))).toEqual({ blobName: 'src/née\n雪' });
  expect(parseUploadReference([dataOf(reference)])).toEqual({ blobName: 'src/née\n雪' });
});

test('a reference that names no blob is refused, not taken for an empty name', () => {
  for (const content of [null, 'src/a', {}, { BlobName: 7 }]) {
    expect(() => parseUploadReference(dataOf(content))).toThrow(/names no blob/);
  }
  expect(() => parseUploadReference([])).toThrow(/names no blob/);
});
