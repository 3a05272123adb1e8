/**
 * Every error that a user of Firn can meet, in one table: a stable code, what happened, what to do next, and whether
 * trying again can help.
 *
 * Rules. A message says what happened to which thing, in the user's words. The advice says what to do now. Codes never
 * change their meaning; scripts rely on them. A retryable error may pass by itself: a function lets its trigger retry,
 * the command line tells the user to run the command again. Messages may hold names (they are shown to the person who
 * asked); a log line at level info or below uses the code only.
 */

interface ErrorRow {
  /** What happened; `{name}` is filled from the details. */
  readonly message: string;
  /** What the user should do now. */
  readonly advice: string;
  readonly retryable?: true;
  /** Set where the user's call itself was wrong: the command line exits with 2 instead of 1. */
  readonly usage?: true;
}

const table = {
  // usage and settings
  FIRN_USAGE: { message: '{problem}', advice: 'Run the command with --help to see how it is used.', usage: true },
  FIRN_SETTING_INVALID: {
    message: 'The setting {name} cannot be read: {problem}.',
    advice: 'Correct the value of {name} or remove it to use its default.',
    usage: true,
  },
  FIRN_SETTING_MISSING: {
    message: 'The setting {name} is missing: {problem}.',
    advice: 'Set {name}; `firn --help` lists the settings.',
    usage: true,
  },
  FIRN_SOURCE_NAME_INVALID: {
    message: 'The source name {source} cannot be used: {problem}.',
    advice: 'Use 1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or a digit.',
    usage: true,
  },

  // storage
  FIRN_STORAGE_UNREACHABLE: {
    message: 'The storage account cannot be reached at {url}: {problem}.',
    advice:
      'Check the address in FIRN_STORAGE and the network, then try again. A local stack is started by `npm start`.',
    retryable: true,
  },
  FIRN_STORAGE_DENIED: {
    message: 'The storage account at {url} refused access: {problem}.',
    advice: 'Check the credentials, or the roles of the identity, that FIRN_STORAGE names.',
  },
  FIRN_STORAGE_FAILED: {
    message: 'The storage account at {url} failed: {problem}.',
    advice: 'Try again; if it goes on, look at the health of the storage account.',
    retryable: true,
  },
  FIRN_CONTAINER_MISSING: {
    message: 'The container {url} is missing.',
    advice: 'Bring the container back (a deleted one can be undeleted for some days), or correct FIRN_REPOSITORY.',
    retryable: true,
  },
  FIRN_BLOB_OFFLINE: {
    message: 'The blob {blob} lies in the Archive tier and cannot be read at once.',
    advice: 'Rehydrate the blob to an online tier, then run the command again.',
  },
  FIRN_LOCK_BUSY: {
    message: 'The lock {lock} is held by {owner}.',
    advice:
      'Wait for the other run to end (`firn locks` shows it), then try again. The lock of a run that died is free within a minute.',
    retryable: true,
  },
  FIRN_LOCK_UNKNOWN: { message: 'There is no lock {lock}.', advice: 'List the locks with `firn locks`.' },
  FIRN_LOCK_LOST: {
    message: 'The lock {lock} was lost while it was needed.',
    advice: 'Run the command again; nothing was half done.',
    retryable: true,
  },

  // repository
  FIRN_REPOSITORY_MISSING: {
    message: 'There is no repository {repository} at {url}.',
    advice: 'Create it with `firn init`, or correct FIRN_REPOSITORY and FIRN_STORAGE.',
  },
  FIRN_REPOSITORY_EXISTS: {
    message: 'There is already a repository {repository} at {url}.',
    advice: 'Use it as it is, or choose another name with FIRN_REPOSITORY.',
  },
  FIRN_REPOSITORY_NEWER: {
    message: 'The {what} has format version {version}; this Firn reads versions up to {supported}.',
    advice: 'Use a newer Firn for this repository.',
  },
  FIRN_REPOSITORY_ENCRYPTED: {
    message: 'The repository {repository} is encrypted and no passphrase was given.',
    advice: 'Set FIRN_PASSPHRASE or use --passphrase-file.',
  },
  FIRN_REPOSITORY_PLAIN: {
    message: 'A passphrase was given, but the repository {repository} says that it is not encrypted.',
    advice: 'If it should be encrypted, its config was tampered with: do not use it. Otherwise remove the passphrase.',
  },
  FIRN_PASSPHRASE_WRONG: {
    message: 'The passphrase opens none of the keys of the repository {repository}.',
    advice: 'Check FIRN_PASSPHRASE or the passphrase file.',
  },
  FIRN_CONFIG_DAMAGED: {
    message: 'The {what} of the repository is damaged: {problem}.',
    advice: 'Restore that blob from a copy of the data container.',
  },

  // what is read back
  FIRN_SEAL_BROKEN: {
    message: 'The blob {blob} is damaged or was tampered with: {problem}.',
    advice:
      'Run `firn restore` for what is still whole, and restore the blob from a copy of the container if there is one.',
  },
  FIRN_BLOB_DAMAGED: {
    message: 'The blob {blob} cannot be understood: {problem}.',
    advice: 'Restore the blob from a copy of the container if there is one.',
  },
  FIRN_CHUNK_MISSING: {
    message: 'The chunk {chunk} is not in the index.',
    advice: 'Rebuild the chunk index from the chunk blobs, then try again.',
  },
  FIRN_CHUNK_DAMAGED: {
    message: 'The chunk {chunk} in {blob} does not have the content that its name promises.',
    advice: 'Files that hold this chunk cannot be restored from it; the others can.',
  },
  FIRN_FILE_DAMAGED: {
    message: 'The file {path} does not have the content that the snapshot promises.',
    advice: 'The file was left out. Restore it from an older snapshot.',
  },
  FIRN_BLOB_MISSING: {
    message: 'The blob {blob} is missing.',
    advice: 'Restore the blob from a copy of the container if there is one.',
  },
  FIRN_RECEIPT_DAMAGED: {
    message: 'The receipt {blob} is damaged: {problem}.',
    advice: 'Nothing was published from it and its uploads are still in the journal; they are archived again.',
    retryable: true,
  },

  // snapshots and paths
  FIRN_SNAPSHOT_UNKNOWN: {
    message: 'There is no snapshot {snapshot}.',
    advice: 'List the snapshots with `firn snapshots`.',
  },
  FIRN_SNAPSHOT_OLD: {
    message: 'The latest snapshot of the source {source} is {days} days old.',
    advice:
      'If there were uploads since, see with `firn stats` what waits. If not, raise FIRN_SNAPSHOT_AGE_DAYS_MAX, or set it to 0.',
  },
  FIRN_SNAPSHOT_AMBIGUOUS: {
    message: 'The snapshot {snapshot} could be any of {candidates}.',
    advice: 'Give more letters of the id.',
    usage: true,
  },
  FIRN_PATH_UNKNOWN: {
    message: 'There is no {path} in the snapshot {snapshot}.',
    advice: 'List the paths with `firn ls {snapshot}`.',
  },
  FIRN_PATH_NOT_FILE: {
    message: 'The path {path} in the snapshot {snapshot} is not a file.',
    advice: 'List it with `firn ls {snapshot} {path}`.',
    usage: true,
  },
  FIRN_PATH_ESCAPES: {
    message: 'The path {path} would be written outside the target folder; it was refused.',
    advice: 'Do not trust this snapshot: no Firn writes such a path.',
  },
  FIRN_FOLDER_MISSING: {
    message: 'The folder {path} does not exist.',
    advice: 'Check the path.',
    usage: true,
  },
  FIRN_NOT_A_FOLDER: { message: '{path} is not a folder.', advice: 'Name a folder.', usage: true },
  FIRN_TARGET_NOT_EMPTY: {
    message: 'The target folder {path} is not empty.',
    advice: 'Choose an empty folder, or use --overwrite to replace files that are in the way.',
    usage: true,
  },
  FIRN_TARGET_BLOCKED: {
    message: 'The path {path} cannot be written: {problem}.',
    advice: 'Move what is in the way, or restore to another folder.',
  },
  FIRN_TARGET_FAILED: {
    message: 'Nothing more can be written to the target folder {path}: {problem}.',
    advice: 'Make room or choose another folder, then restore again (with --overwrite into the same folder).',
  },
  FIRN_RESTORE_INCOMPLETE: {
    message: '{failed} of {files} files could not be restored.',
    advice: 'Each of them is named above; the others are whole.',
  },
  FIRN_SNAPSHOT_INCOMPLETE: {
    message: '{failed} of {files} files of the snapshot {snapshot} cannot be read back.',
    advice:
      'Each of them is named above; the others are whole. Where chunks are not in the index, run `firn repair-index`; where blobs are damaged or gone, restore them from a copy of the container, or verify an earlier snapshot.',
  },

  // sources
  FIRN_FILE_UNREADABLE: {
    message: 'The file {path} cannot be read: {problem}.',
    advice: 'Its earlier version, if there is one, stays in the snapshot. Make it readable and archive again.',
  },
  FIRN_FILE_SPECIAL: {
    message: 'The path {path} was left out: {problem}.',
    advice: 'Devices, sockets and pipes are never archived.',
  },
  FIRN_FILE_CHANGING: {
    message: 'The file {path} changed each of {tries} times while it was read.',
    advice: 'Archive again when it is quiet.',
    retryable: true,
  },
  FIRN_PATH_UNUSABLE: {
    message: 'The path {path} cannot be archived: {problem}.',
    advice: 'Rename it.',
  },

  // index, journal and publish
  FIRN_INDEX_CONTENDED: {
    message: 'The shard {shard} of the chunk index changed under each of {tries} attempts to write it.',
    advice: 'Other writers are busy with it. Nothing is lost; try again.',
    retryable: true,
  },
  FIRN_CACHE_UNUSABLE: {
    message: 'The cache folder {path} cannot be used: {problem}.',
    advice: 'The work goes on without it, with more reads from storage. Correct or unset FIRN_CACHE_FOLDER.',
  },
  FIRN_REPAIR_UNFINISHED: {
    message: 'The chunk index is under repair since {started} (by {owner}), and that repair is not finished.',
    advice: 'Wait for it if it still runs, else finish it with `firn repair-index`. Nothing is lost; then try again.',
    retryable: true,
  },
  FIRN_REPAIR_FAILED: {
    message: 'The chunk index could not be checked or repaired: {problem}.',
    advice: 'Nothing is lost. Run `firn repair-index` to repair it at once and to see what is wrong.',
    retryable: true,
  },
  FIRN_JOURNAL_DAMAGED: {
    message: 'The journal partition {blob} is damaged: {problem}.',
    advice:
      'The records that are whole were taken; compare the inbox with the snapshot and upload again what is missing.',
  },
  FIRN_JOURNAL_BUSY: {
    message: 'The journal of {source} takes no more: {calls} calls wait for the storage already.',
    advice: 'Nothing of this call was recorded. Try again when the storage has caught up, with fewer calls at once.',
    retryable: true,
  },
  FIRN_JOURNAL_CLOSED: {
    message: 'The journal of {source} is closed in this process.',
    advice: 'Nothing of this call was recorded. Open the journal again.',
  },
  FIRN_PUBLISH_CONFLICT: {
    message: 'Another publish of the source {source} was faster.',
    advice: 'Nothing is lost; what is left is in the next publish.',
    retryable: true,
  },
  FIRN_PUBLISH_FAILED: {
    message: 'The source {source} could not be published: {problem}.',
    advice: 'Nothing is lost: the receipts stay and the next publish picks them up.',
    retryable: true,
  },
  FIRN_UPLOAD_KEPT: {
    message: '{uploads} archived uploads of {source} stay in the inbox, {path} the first: {problem}.',
    advice: 'Run `firn repair-index`, then upload them again: what is in the inbox may be the only whole copy.',
  },
  FIRN_BATCH_FAILED: {
    message: 'The batch {batch} of the source {source} could not be archived: {problem}.',
    advice: 'Its uploads stay in the inbox and the journal; it is tried again later.',
    retryable: true,
  },

  // the local stack
  FIRN_PORT_IN_USE: {
    message: 'The port {port} on 127.0.0.1 is in use ({what} needs it).',
    advice: 'Stop the program that uses it, or choose another port with {setting}.',
  },
  FIRN_LOCAL_STACK_FAILED: {
    message: 'The local stack failed: {problem}.',
    advice: 'Read the lines above and the log (`host.log` in the data folder, `.firn/`), then start it again.',
  },
  FIRN_LOCAL_FOLDER_IN_USE: {
    message: 'The data folder {path} is in use by a local stack that runs.',
    advice: 'Use that one, or stop it first, or choose another folder with {setting}.',
  },
  FIRN_FUNCTION_INVALID: {
    message: 'The function {function} cannot be hosted: {problem}.',
    advice: 'Correct its registration; docs/local-stack.md says what the local host supports.',
  },
  FIRN_FUNCTION_TIMEOUT: {
    message: 'The function {function} did not end within {seconds} s.',
    advice: 'Raise functionTimeout in host.json if its work takes that long.',
    retryable: true,
  },
  FIRN_NODE_TOO_OLD: {
    message: 'Firn needs Node.js 24 or newer; this is {version}.',
    advice: 'Install a newer Node.js, or run `npm ci` in the folder of Firn, which brings one.',
  },
  FIRN_CANCELLED: { message: 'The work was cancelled.', advice: 'Run it again; what was stored is not stored twice.' },
  FIRN_INTERNAL: {
    message: 'Firn met something that it did not expect: {problem}.',
    advice: 'Please report it with the stack trace that FIRN_DEBUG=1 prints.',
  },
} satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof table;

/** All codes, for the documentation and its test. */
export const errorCodes: Readonly<Record<ErrorCode, ErrorRow>> = table;

export type ErrorDetails = Readonly<Record<string, string | number>>;

function fill(template: string, details: ErrorDetails): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(details[name] ?? whole));
}

export class FirnError extends Error {
  override readonly name = 'FirnError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  readonly #advice: string | undefined;

  /** @param options `advice` takes the place of the table's, where more is known of what helps. */
  constructor(code: ErrorCode, details: ErrorDetails = {}, options?: { cause?: unknown; advice?: string }) {
    super(fill(table[code].message, details), options);
    this.code = code;
    this.details = details;
    this.#advice = options?.advice;
  }

  get advice(): string {
    return this.#advice ?? fill(table[this.code].advice, this.details);
  }

  get retryable(): boolean {
    return 'retryable' in table[this.code];
  }

  get usage(): boolean {
    return 'usage' in table[this.code];
  }

  /** What `--json` prints on failure. */
  toJSON(): { error: ErrorCode; message: string; advice: string; details: ErrorDetails } {
    return { error: this.code, message: this.message, advice: this.advice, details: this.details };
  }
}

export function isFirnError(error: unknown, ...codes: ErrorCode[]): error is FirnError {
  return error instanceof FirnError && (codes.length === 0 || codes.includes(error.code));
}

/** The text of anything thrown, for a `{problem}`. */
export function problemOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
