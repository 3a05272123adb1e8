/**
 * Hostile bytes: valid data that a failing disk, a bug or an attacker changed, and noise. Generators give descriptions of
 * edits, so that a failed run prints what was done (and its seed), and functions carry them out.
 */
import fc from 'fast-check';
import { errorCodes, isFirnError } from '../../src/errors.ts';
import { BlobStoreError } from '../../src/storage/blob-store.ts';
import { isComplete } from '../crash/complete.ts';
import { testSeed } from '../kit/random.ts';

/** So many runs of a property in the normal run; a hundred times as many in `npm run test:crash`. */
export function runs(normal: number, times = 100): { numRuns: number; seed?: number } {
  return { numRuns: isComplete ? normal * times : normal, ...(testSeed !== undefined && { seed: testSeed }) };
}

/** For tests that run properties: the complete run takes its time. */
export const patient = { timeout: 1_800_000 };

/** No reading of a small blob takes longer, on a machine with much other work too: a key may cost seconds of scrypt. */
const READING_MS_MAX = 120_000;

export type Outcome<T> = { readonly value: T } | { readonly error: Error };

/**
 * What a reader makes of hostile bytes: a value or a typed error.
 * @throws whatever else it does: an error without a stable code, one that asks the user to report it, a hang.
 */
export async function outcomeOf<T>(read: () => T | Promise<T>): Promise<Outcome<T>> {
  const began = performance.now();
  const outcome = await Promise.try(read).then(
    (value) => ({ value }),
    (error: unknown) => {
      if (isTyped(error)) return { error };
      throw new Error(`it failed without a code: ${error}`, { cause: error });
    },
  );
  const tookMs = performance.now() - began;
  if (tookMs > READING_MS_MAX) throw new Error(`it took ${tookMs} ms`);
  return outcome;
}

/** The codes are those of docs/operations.md, which `docs.test.ts` holds to this table. */
export function isTyped(error: unknown): error is Error {
  if (error instanceof BlobStoreError) return true;
  return isFirnError(error) && error.code in errorCodes && error.code !== 'FIRN_INTERNAL';
}

/** One change of some bytes; places count round. */
export type Edit =
  | { readonly is: 'flip'; readonly at: number; readonly bit: number }
  | { readonly is: 'cut'; readonly at: number }
  | { readonly is: 'append' | 'insert' | 'overwrite'; readonly at: number; readonly noise: Uint8Array }
  | { readonly is: 'drop' | 'repeat' | 'zero'; readonly at: number; readonly bytes: number }
  | { readonly is: 'number'; readonly at: number; readonly width: number; readonly value: bigint }
  /** The beginning of these bytes and the end of others. */
  | { readonly is: 'splice'; readonly at: number; readonly from: number; readonly other: number }
  /** Others in their place. */
  | { readonly is: 'swap'; readonly other: number }
  | { readonly is: 'noise'; readonly noise: Uint8Array };

const anyAt = fc.nat({ max: 1_000_000 });
const anyNoise = fc.uint8Array({ maxLength: 80 });

/** Numbers that lengths, counts and offsets are turned into. */
const temptingNumbers = [0n, 1n, 2n, 3n, 7n, 8n, 0x7fn, 0xffn, 0x7fffn, 0xffffn, 0xff_ffffn, 1n << 24n].concat(
  [(1n << 31n) - 1n, 1n << 31n, (1n << 32n) - 1n, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n],
  [1n << 63n, (1n << 64n) - 1n],
);

export const anyEdit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ is: fc.constant('flip' as const), at: anyAt, bit: fc.nat({ max: 7 }) }) },
  { weight: 2, arbitrary: fc.record({ is: fc.constant('cut' as const), at: anyAt }) },
  {
    weight: 2,
    arbitrary: fc.record({ is: fc.constantFrom('append', 'insert', 'overwrite'), at: anyAt, noise: anyNoise }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      is: fc.constantFrom('drop', 'repeat', 'zero'),
      at: anyAt,
      bytes: fc.integer({ min: 1, max: 200 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      is: fc.constant('number' as const),
      // Lengths and counts stand near the beginning.
      at: fc.oneof(fc.nat({ max: 64 }), anyAt),
      width: fc.constantFrom(1, 2, 4, 8),
      value: fc.oneof(fc.constantFrom(...temptingNumbers), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ is: fc.constant('splice' as const), at: anyAt, from: anyAt, other: fc.nat({ max: 16 }) }),
  },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('swap' as const), other: fc.nat({ max: 16 }) }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('noise' as const), noise: fc.uint8Array({ maxLength: 400 }) }) },
);

/** One edit, or a few. */
export const anyEdits: fc.Arbitrary<Edit[]> = fc.oneof(
  { weight: 3, arbitrary: anyEdit.map((edit) => [edit]) },
  { weight: 1, arbitrary: fc.array(anyEdit, { minLength: 2, maxLength: 4 }) },
);

/** @param others valid bytes of the same form, for splices and swaps. */
export function edited(valid: Buffer, edits: readonly Edit[], others: readonly Buffer[]): Buffer {
  return Buffer.from(edits.reduce((bytes, edit) => editedOnce(bytes, edit, others), valid));
}

function editedOnce(bytes: Buffer, edit: Edit, others: readonly Buffer[]): Buffer {
  const size = Math.max(1, bytes.length);
  switch (edit.is) {
    case 'flip': {
      const at = edit.at % size;
      return replaced(bytes, at, Buffer.from([(bytes[at] ?? 0) ^ (1 << edit.bit)]));
    }
    case 'cut':
      return bytes.subarray(0, edit.at % size);
    case 'append':
      return Buffer.concat([bytes, edit.noise]);
    case 'insert':
      return joined(bytes.subarray(0, edit.at % size), edit.noise, bytes.subarray(edit.at % size));
    case 'overwrite':
      return replaced(bytes, edit.at % size, edit.noise);
    case 'drop':
      return joined(bytes.subarray(0, edit.at % size), bytes.subarray((edit.at % size) + edit.bytes));
    case 'repeat': {
      const end = (edit.at % size) + edit.bytes;
      return joined(bytes.subarray(0, end), bytes.subarray(edit.at % size, end), bytes.subarray(end));
    }
    case 'zero':
      return replaced(bytes, edit.at % size, Buffer.alloc(edit.bytes));
    case 'number': {
      const eight = Buffer.alloc(8);
      eight.writeBigUInt64LE(edit.value);
      return replaced(bytes, edit.at % size, eight.subarray(0, edit.width));
    }
    case 'splice': {
      const other = others[edit.other % Math.max(1, others.length)] ?? Buffer.alloc(0);
      return joined(bytes.subarray(0, edit.at % (size + 1)), other.subarray(edit.from % (other.length + 1)));
    }
    case 'swap':
      return others[edit.other % Math.max(1, others.length)] ?? Buffer.alloc(0);
    case 'noise':
      return Buffer.from(edit.noise);
  }
}

function joined(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

/** Writes over what is there; nothing grows. */
function replaced(bytes: Buffer, at: number, by: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  copy.set(by.subarray(0, Math.max(0, copy.length - at)), Math.min(at, copy.length));
  return copy;
}

/** One change of a JSON text; nodes are counted in the order of the text, round. */
export interface JsonEdit {
  readonly is: 'replace' | 'drop' | 'extra' | 'twice' | 'wrap' | 'rename';
  readonly at: number;
  /** JSON text. */
  readonly by: string;
  readonly key: string;
}

/** Deeper than any stack. */
const DEPTH = 20_000;

/** Values of the wrong type, numbers that are none, texts that are no names, and what confuses programs. */
const temptingJson = [
  ...['null', 'true', 'false', '0', '-0', '-1', '1', '7', '1.5', '1e308', '-1e308', '1e999', '4294967296'],
  ...['9007199254740991', '9007199254740992', '-9007199254740993', '9999999999', '10000000000'],
  ...['""', '"x"', '"."', '".."', '"../../x"', '"a/b"', '"/"', '"a\\\\b"', '"\\u0000"', '"\\ud800"', '"\\uffff"'],
  ...['"0000000000000000"', '"2026-99-99T99:99:99.999Z"', '"+275760-09-13T00:00:00.000Z"', '"1970-01-01"'],
  ...['"9999-12-31T23:59:59.999Z"', '"2026-01-01T00:00:00.000Z"', `"${'f'.repeat(64)}"`, `"${'x'.repeat(5_000)}"`],
  ...['[]', '{}', '[null]', '[[]]', '[{}]', '[1,2]', '["a","b"]', '{"toString":1}', '{"length":1e9}', '{"then":1}'],
  ...['{"toString":null,"valueOf":null}', '{"__proto__":{"x":1}}', '{"toJSON":1}', '{"constructor":{"prototype":1}}'],
  ...[`${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`, `${'{"a":'.repeat(DEPTH)}1${'}'.repeat(DEPTH)}`],
];
const temptingKeys = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'length', '', 'format', 'extra', '0'];

/** @param tempting more values that are worth trying where another stands: of the right type, and wrong. */
export function anyJsonEdits(tempting: readonly string[] = []): fc.Arbitrary<JsonEdit[]> {
  const one = fc.record({
    is: fc.constantFrom<JsonEdit['is']>('replace', 'replace', 'replace', 'drop', 'extra', 'twice', 'wrap', 'rename'),
    at: fc.nat({ max: 1_000 }),
    by: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...temptingJson) },
      { weight: tempting.length === 0 ? 0 : 2, arbitrary: fc.constantFrom('null', ...tempting) },
      { weight: 1, arbitrary: fc.oneof(fc.integer(), fc.maxSafeInteger()).map(String) },
      { weight: 1, arbitrary: fc.string({ maxLength: 20 }).map((text) => JSON.stringify(text)) },
    ),
    key: fc.oneof(fc.constantFrom(...temptingKeys), fc.string({ maxLength: 9 })),
  });
  return fc.oneof(
    { weight: 3, arbitrary: one.map((edit) => [edit]) },
    { weight: 1, arbitrary: fc.array(one, { minLength: 2, maxLength: 3 }) },
  );
}

/** The JSON text of a value after the edits; it may be no JSON any more. */
export function editedJson(valid: unknown, edits: readonly JsonEdit[]): string {
  let text = JSON.stringify(valid);
  for (const edit of edits) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return text;
    }
    const target = edit.at % countNodes(value);
    text = written(value, edit, { target, at: 0 }) ?? '';
  }
  return text;
}

function countNodes(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1;
  return Object.values(value).reduce((sum: number, each) => sum + countShallow(each), 1);
}

/** What is nested beyond all sense is one node. */
function countShallow(value: unknown, depth = 0): number {
  if (typeof value !== 'object' || value === null || depth > 20) return 1;
  return Object.values(value).reduce((sum: number, each) => sum + countShallow(each, depth + 1), 1);
}

/** The text of a node, undefined where it is dropped. */
function written(value: unknown, edit: JsonEdit, count: { target: number; at: number }, depth = 0): string | undefined {
  const isIt = count.at === count.target;
  count.at += 1;
  let text: string;
  if (typeof value !== 'object' || value === null || depth > 21) {
    text = depth > 21 ? '1' : (JSON.stringify(value) ?? 'null');
  } else if (Array.isArray(value)) {
    const items = value.map((each) => written(each, edit, count, depth + 1));
    text = `[${items.filter((item) => item !== undefined).join()}]`;
  } else {
    const fields = Object.entries(value).flatMap(([key, each]) => {
      const wasAt = count.at;
      const field = written(each, edit, count, depth + 1);
      const name = edit.is === 'rename' && wasAt === count.target ? edit.key : key;
      return field === undefined ? [] : [`${JSON.stringify(name)}:${field}`];
    });
    text = `{${fields.join()}}`;
  }
  if (!isIt) return text;
  switch (edit.is) {
    case 'replace':
      return edit.by;
    case 'drop':
      return undefined;
    case 'twice':
      return `${text},${text}`;
    case 'wrap':
      return `[${text}]`;
    case 'rename':
      return text;
    case 'extra':
      if (text.startsWith('{')) {
        const comma = text === '{}' ? '' : ',';
        return `${text.slice(0, -1)}${comma}${JSON.stringify(edit.key)}:${edit.by}}`;
      }
      return text.startsWith('[') ? `${text.slice(0, -1)}${text === '[]' ? '' : ','}${edit.by}]` : edit.by;
  }
}

/** A hostile text for a JSON blob: edits of its structure, and sometimes of its bytes. */
export interface HostileJson {
  readonly json: readonly JsonEdit[];
  readonly bytes: readonly Edit[];
}

export function anyHostileJson(tempting: readonly string[] = []): fc.Arbitrary<HostileJson> {
  return fc.record({
    json: anyJsonEdits(tempting),
    bytes: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: anyEdits }),
  });
}

export function hostileJson(valid: unknown, { json, bytes }: HostileJson, others: readonly unknown[] = []): Buffer {
  const text = Buffer.from(editedJson(valid, json));
  return edited(
    text,
    bytes,
    others.map((other) => Buffer.from(JSON.stringify(other))),
  );
}

/** Growth of the memory of this process that no property over small blobs may come near. */
const MEMORY_GROWTH_BYTES_MAX = 768 * 1024 * 1024;

/** Begins to watch the memory of this process; the answer fails when it was ever much more than at the beginning. */
export function watchMemory(): () => void {
  const beganBytes = process.memoryUsage().rss;
  return () => {
    const grownBytes = process.resourceUsage().maxRSS * 1024 - beganBytes;
    if (grownBytes > MEMORY_GROWTH_BYTES_MAX) throw new Error(`memory grew by ${grownBytes >> 20} MiB`);
  };
}
