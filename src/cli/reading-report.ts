/** What `firn restore` and `firn verify` tell while they read a snapshot, and of what they have read. */
import type { RestoreOptions, RestoreResult } from '../restore/restore-tree.ts';
import { counted, formatBytes, formatCount, printable } from './format.ts';
import type { Output } from './output.ts';

/** So many failed paths are named in the result; all are named on stderr. */
const FAILED_NAMED_MAX = 1_000;

interface FailedPath {
  readonly path: string;
  readonly code: string;
  readonly problem: string;
}

type Told = Required<Pick<RestoreOptions, 'onFailed' | 'onProgress'>>;

export function reportReading(output: Output, doing: string): Told & { readonly failed: readonly FailedPath[] } {
  const failed: FailedPath[] = [];
  return {
    failed,
    onFailed: (path, error) => {
      output.problem(error, path);
      if (failed.length < FAILED_NAMED_MAX) failed.push({ path, code: error.code, problem: error.message });
    },
    onProgress: ({ files, bytes, filesExpected, bytesExpected, path }) =>
      output.progress(
        () =>
          `${doing}  ${formatCount(files)}/${counted(filesExpected, 'file')}  ${formatBytes(bytes)}/${formatBytes(bytesExpected)}  ${printable(path)}`,
      ),
  };
}

/** What was read, for `--json`. */
export function readingResult(result: RestoreResult, failed: readonly FailedPath[], seconds: number) {
  const { files, links, folders, bytes, failed: failedCount } = result;
  return { files, links, folders, bytes, failedCount, failed, seconds: Number(seconds.toFixed(3)) };
}

/** Files and links that were not read; a folder that could not be read stands for all that is in it. */
export function missingFiles({ failed, filesExpected, files, links }: RestoreResult): number {
  return Math.max(failed, filesExpected - files - links);
}

/** «3 files, 1 link, 2 folders» */
export function entriesOf({ files, links, folders }: RestoreResult): string {
  return [
    counted(files, 'file'),
    ...(links > 0 ? [counted(links, 'link')] : []),
    ...(folders > 0 ? [counted(folders, 'folder')] : []),
  ].join(', ');
}
