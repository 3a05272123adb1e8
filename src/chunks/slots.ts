/** A bounded number of slots: whoever wants one waits for its turn, first come, first served. */

export interface Slots {
  /** @returns a function that gives the slot back; a second call does nothing. */
  acquire(): Promise<() => void>;
}

export function createSlots(count: number): Slots {
  const waiting: (() => void)[] = [];
  let free = Math.max(1, count);
  const give = () => {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  };
  return {
    async acquire() {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      let held = true;
      return () => {
        if (held) give();
        held = false;
      };
    },
  };
}
