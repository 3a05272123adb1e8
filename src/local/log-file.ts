/**
 * The log file of `npm start`: lines in order, appended without making their writer wait. A file that has grown large is
 * put aside as `<file>.old` when a new run opens it. A log that cannot be written never ends the work: it is told once.
 */
import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';

const BYTES_MAX_AT_OPEN = 16 * 1024 * 1024;

export interface LogFile {
  line(text: string): void;
  /** Resolves when every line is written, or none can be. */
  close(): Promise<void>;
}

/** Opens the file with its first line, so that a run that is refused leaves the log of another alone. */
export function logFile(file: string, onFailed: (error: Error) => void): LogFile {
  let stream: WriteStream | undefined;
  const open = (): WriteStream => {
    if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > BYTES_MAX_AT_OPEN) renameSync(file, `${file}.old`);
    return createWriteStream(file, { flags: 'a' }).once('error', onFailed);
  };
  return {
    line(text) {
      stream ??= open();
      if (!stream.destroyed) stream.write(`${text}\n`);
    },
    close: () =>
      new Promise((resolve) => {
        if (stream === undefined || stream.destroyed) resolve();
        else stream.once('close', resolve).end();
      }),
  };
}
