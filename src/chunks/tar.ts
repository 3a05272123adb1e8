/**
 * The parts of a tar stream (POSIX ustar), with every field that is not the member's name or size held constant, so that
 * the same members in the same order are always the same bytes. Members are named by their chunk hash.
 *
 * Written by hand: it is one block of 512 bytes, and a stream library would choose fields for us.
 */
import type { Hash } from '../sealing/keys.ts';

export const TAR_BLOCK_BYTES = 512;
/** The largest size that eleven octal digits can say. */
const MEMBER_BYTES_MAX = 8 * 1024 ** 3 - 1;

/** Two blocks of zeros end an archive. */
export const tarTrailer: Buffer = Buffer.alloc(2 * TAR_BLOCK_BYTES);

/** Zeros that fill the last block of a member. */
export function tarPadding(memberBytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK_BYTES - (memberBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES);
}

/** Bytes that a member takes: header, content, padding. */
export function tarEntryBytes(memberBytes: number): number {
  return TAR_BLOCK_BYTES + Math.ceil(memberBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

/** The header of a regular file with this name and size: mode 0644, owner and group 0, mtime 0, no names. */
export function tarHeader(name: Hash, memberBytes: number): Buffer {
  if (memberBytes > MEMBER_BYTES_MAX) throw new RangeError(`A tar member has ${MEMBER_BYTES_MAX} bytes at most.`);
  const header = Buffer.alloc(TAR_BLOCK_BYTES);
  const octal = (value: number, digits: number, at: number) =>
    header.write(`${value.toString(8).padStart(digits, '0')}\0`, at, 'latin1');
  header.write(name, 0, 100, 'latin1');
  octal(0o644, 7, 100);
  octal(0, 7, 108);
  octal(0, 7, 116);
  octal(memberBytes, 11, 124);
  octal(0, 11, 136);
  header.write('0', 156, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  // The checksum is taken with eight spaces in its place.
  header.fill(' ', 148, 156);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    6,
    148,
  );
  return header;
}
