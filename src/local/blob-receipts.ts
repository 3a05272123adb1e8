/**
 * Remembers which version (ETag) of which blob a blob-triggered function has dealt with, across restarts.
 *
 * Kept in the host's own storage as a snapshot (one block blob, replaced at once) and a log of what came since (an
 * append blob). Many receipts that are ready at the same time go into one append. The log is applied to the snapshot in
 * order, and applying it again changes nothing, so a crash between the two steps of compaction does no harm.
 *
 * Memory grows with the number of blobs in the container: this is for a developer's machine.
 */
import type { AppendBlobClient, ContainerClient } from '@azure/storage-blob';
import { FirnError } from '../errors.ts';

/** An append blob takes 50,000 blocks; the log is folded into the snapshot long before. */
const LOG_BLOCKS_MAX = 10_000;
const BLOCK_BYTES_MAX = 1024 * 1024;

export interface BlobReceipts {
  has(blob: string, etag: string): boolean;
  /** Resolves when the receipt is durable. */
  record(blob: string, etag: string): Promise<void>;
  /** Forgets every blob for which the test fails (they were deleted). It becomes durable with the next compaction. */
  retain(exists: (blob: string) => boolean): void;
  readonly size: number;
}

interface Waiting {
  readonly line: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** `name` is the beginning of the names of both blobs. */
export async function openBlobReceipts(container: ContainerClient, name: string): Promise<BlobReceipts> {
  const snapshot = container.getBlockBlobClient(`${name}/snapshot`);
  const log = container.getAppendBlobClient(`${name}/log`);
  const known = new Map<string, string>();
  let waiting: Waiting[] = [];
  let writing = false;
  let blocks = 0;

  for (const source of [snapshot, log]) {
    for (const line of (await readIfThere(source)).split('\n')) {
      if (line === '') continue;
      const receipt = parse(line, source.name);
      known.set(receipt.blob, receipt.etag);
    }
  }
  await compact();

  async function compact(): Promise<void> {
    const body = [...known].map(([blob, etag]) => `${JSON.stringify({ blob, etag })}\n`).join('');
    await snapshot.uploadData(Buffer.from(body));
    await log.create();
    blocks = 0;
  }

  async function write(): Promise<void> {
    if (writing) return;
    writing = true;
    while (waiting.length > 0) {
      const group: Waiting[] = [];
      let bytes = 0;
      while (group.length < waiting.length && bytes < BLOCK_BYTES_MAX) {
        const next = waiting[group.length];
        if (next === undefined) break;
        group.push(next);
        bytes += next.line.length;
      }
      waiting = waiting.slice(group.length);
      try {
        const body = Buffer.from(group.map(({ line }) => line).join(''));
        await log.appendBlock(body, body.length);
        blocks += 1;
        if (blocks >= LOG_BLOCKS_MAX) await compact();
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    writing = false;
  }

  return {
    has: (blob, etag) => known.get(blob) === etag,
    record(blob, etag) {
      known.set(blob, etag);
      return new Promise((resolve, reject) => {
        waiting.push({ line: `${JSON.stringify({ blob, etag })}\n`, resolve, reject });
        void write();
      });
    },
    retain(exists) {
      for (const blob of known.keys()) if (!exists(blob)) known.delete(blob);
    },
    get size() {
      return known.size;
    },
  };
}

async function readIfThere(blob: Pick<AppendBlobClient, 'downloadToBuffer'>): Promise<string> {
  try {
    return (await blob.downloadToBuffer()).toString('utf8');
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return '';
    throw error;
  }
}

function parse(line: string, blobName: string): { blob: string; etag: string } {
  try {
    const { blob, etag } = JSON.parse(line) as { blob?: unknown; etag?: unknown };
    if (typeof blob === 'string' && typeof etag === 'string') return { blob, etag };
  } catch {
    // Told below.
  }
  throw new FirnError('FIRN_LOCAL_STACK_FAILED', {
    problem: `the host's own blob ${blobName} is damaged; delete it to have every blob delivered again`,
  });
}
