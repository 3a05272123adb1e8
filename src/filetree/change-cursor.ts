/** Reads a list of changes one by one, and checks what `applyChanges` relies on: order, paths, and what is put. */
import { FirnError } from '../errors.ts';
import { type Change, checkPath, compareChanges } from './entry.ts';
import { attributesProblem, contentProblem } from './node.ts';

export class ChangeCursor implements AsyncDisposable {
  readonly #changes: AsyncIterator<Change> | Iterator<Change>;
  readonly #signal: AbortSignal | undefined;
  /** The next change to be applied; undefined behind the last. */
  current: Change | undefined;

  /** Stands before the first change; `advance` makes it current. */
  constructor(changes: AsyncIterable<Change> | Iterable<Change>, signal: AbortSignal | undefined) {
    this.#changes = Symbol.asyncIterator in changes ? changes[Symbol.asyncIterator]() : changes[Symbol.iterator]();
    this.#signal = signal;
  }

  /**
   * @throws FIRN_PATH_UNUSABLE; FIRN_INTERNAL when the change is out of order (or a second one of its kind for its path)
   * or puts what cannot be stored.
   */
  async advance(): Promise<void> {
    this.#signal?.throwIfAborted();
    const before = this.current;
    const { done, value } = await this.#changes.next();
    if (done === true) {
      this.current = undefined;
      return;
    }
    const change: Change = value;
    checkPath(change.path);
    if (before !== undefined && compareChanges(before, change) >= 0) {
      throw new FirnError('FIRN_INTERNAL', {
        problem: `the change of ${change.path} does not come after that of ${before.path}`,
      });
    }
    if (change.op === 'put') {
      const problem = attributesProblem(change.entry) ?? contentProblem(change.entry);
      if (problem !== undefined) {
        throw new FirnError('FIRN_INTERNAL', { problem: `the change of ${change.path} cannot be stored: ${problem}` });
      }
    }
    this.current = change;
  }

  /** The name in the folder with this prefix (empty, or ending with «/») that the current change belongs to. */
  nameUnder(prefix: string): string | undefined {
    const path = this.current?.path;
    if (path === undefined || !path.startsWith(prefix)) return undefined;
    const end = path.indexOf('/', prefix.length);
    return end === -1 ? path.slice(prefix.length) : path.slice(prefix.length, end);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#changes.return?.();
  }
}
