/**
 * Whether a short read is made on this thread or through the thread pool. What lies in the memory of the system is read
 * on this thread in a fraction of the time that a trip through the pool takes; a disk that has to be waited for serves
 * many reads at once, which must not wait for each other here. Which of the two it is shows in how long the last one took.
 */

/** Longer reads are worth the trip. */
const BYTES_MAX = 128 * 1024;
/** From memory even the longest takes less. */
const WAITED_MS_MIN = 0.15;
/** After a read that had to wait, so many go through the pool before one is tried here again. */
const READS_IN_POOL = 64;

export class ReadPace {
  #inPool = 0;

  /** Says where the next read belongs; to be asked once for each. */
  next(bytes: number): 'here' | 'in the pool' {
    if (bytes > BYTES_MAX) return 'in the pool';
    if (this.#inPool === 0) return 'here';
    this.#inPool -= 1;
    return 'in the pool';
  }

  /** A read on this thread has ended. */
  tookHere(ms: number): void {
    if (ms > WAITED_MS_MIN) this.#inPool = READS_IN_POOL;
  }
}
