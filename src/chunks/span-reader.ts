/**
 * Reads frames, neighbours of one blob in one request where somebody said that they will be needed: the bytes come in
 * fewer and longer reads, and the next are on their way while these are used.
 *
 * What is expected is cut into spans; nothing is read before the first frame of a span is asked for. Then the span is
 * read whole, and the one expected after it. Expecting never makes anyone wait and never fails: a frame that is in no
 * span, or in one that could not be read or would not fit into memory any more, is read by itself, and its error is the
 * frame's own. Memory is bounded by `heldBytesMax`, the bytes of spans whose frames were not all taken.
 */
import { abortable } from '../storage/abortable.ts';
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';

/** In bytes. */
export interface SpanLimits {
  /** So long that the request does not matter beside its bytes. */
  readonly spanBytesMax: number;
  /** Of all spans that are being read or used: two of them, and one more for whoever comes late. */
  readonly heldBytesMax: number;
}

const MiB = 1024 * 1024;
const limitsOfDesign: SpanLimits = { spanBytesMax: 8 * MiB, heldBytesMax: 24 * MiB };

/** Where the sealed bytes of a frame lie. */
export interface FramePlace {
  /** Name of the blob. */
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

interface Span {
  readonly name: string;
  readonly offset: number;
  end: number;
  /** Not taken yet, by their keys, in the order of their offsets. */
  readonly frames: Map<string, FramePlace>;
  /** Of those, how many are being waited for. */
  waiting: number;
  /** No more of them will be asked for. */
  released: boolean;
  /** Undefined until it is read. */
  reading: Reading | undefined;
  /** What was expected before and after it. */
  previous: Span | undefined;
  next: Span | undefined;
}

interface Reading {
  readonly offset: number;
  readonly bytes: number;
  /** Undefined where it failed. */
  readonly body: Promise<Buffer | undefined>;
  readonly stop: AbortController;
}

export class SpanReader {
  readonly #data: Pick<BlobStore, 'read'>;
  readonly #spans = new Map<string, Span>();
  readonly #limits: SpanLimits;
  #heldBytes = 0;

  constructor(data: Pick<BlobStore, 'read'>, limits = limitsOfDesign) {
    this.#data = data;
    this.#limits = limits;
  }

  /** Of all spans that are being read or used. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * Frames that will be asked for soon, about in this order; one that is expected already stays where it is.
   * @returns a function that takes it back, but for what is being waited for; calling it again does nothing.
   */
  expect(places: Iterable<FramePlace>): () => void {
    const spans: Span[] = [];
    for (const place of places) {
      const key = keyOf(place);
      if (this.#spans.has(key)) continue;
      let span = spans.at(-1);
      if (span === undefined || !takesIn(span, place, this.#limits)) {
        span = startAt(place, span);
        spans.push(span);
      }
      span.end = place.offset + place.bytes;
      span.frames.set(key, place);
      this.#spans.set(key, span);
    }
    return () => {
      for (const span of spans) {
        span.released = true;
        if (span.waiting === 0) this.#drop(span);
      }
    };
  }

  /** A frame out of the span that it is expected in, as it came; undefined where it has to be read by itself. */
  async take(place: FramePlace, { signal }: CallOptions = {}): Promise<Buffer | undefined> {
    const key = keyOf(place);
    const span = this.#spans.get(key);
    if (span === undefined) return undefined;
    // Some of its frames may never be asked for.
    if (span.previous?.previous?.waiting === 0) this.#drop(span.previous.previous);
    this.#begin(span);
    if (span.next !== undefined) this.#begin(span.next);
    const { reading } = span;
    span.waiting += 1;
    let body: Buffer | undefined;
    try {
      body = await abortable(Promise.resolve(reading?.body), signal);
      if (this.#spans.get(key) === span) this.#spans.delete(key);
      span.frames.delete(key);
    } finally {
      span.waiting -= 1;
      if (span.frames.size === 0 || (span.released && span.waiting === 0)) this.#drop(span);
    }
    if (reading === undefined || body === undefined) return undefined;
    const from = place.offset - reading.offset;
    return body.subarray(from, from + place.bytes);
  }

  #begin(span: Span): void {
    if (span.reading !== undefined) return;
    // Those before it were read by themselves.
    const [first] = span.frames.values();
    if (first === undefined) return;
    const { name, offset } = first;
    const bytes = span.end - offset;
    if (this.#heldBytes + bytes > this.#limits.heldBytesMax) return;
    this.#heldBytes += bytes;
    const stop = new AbortController();
    const body = this.#data.read(name, { offset, length: bytes, signal: stop.signal }).then(
      (read) => read.body,
      () => undefined,
    );
    span.reading = { offset, bytes, body, stop };
  }

  #drop(span: Span): void {
    for (const key of span.frames.keys()) this.#spans.delete(key);
    span.frames.clear();
    if (span.reading !== undefined) {
      this.#heldBytes -= span.reading.bytes;
      span.reading.stop.abort(dropped);
      span.reading = undefined;
    }
    if (span.previous !== undefined) span.previous.next = span.next;
    if (span.next !== undefined) span.next.previous = span.previous;
    span.previous = undefined;
    span.next = undefined;
  }
}

/** Made once: a reason that `abort` makes for itself takes a stack each time, and nobody reads it. */
const dropped = new Error('Nobody needs the rest of the span.');

function keyOf({ name, offset, bytes }: FramePlace): string {
  return `${name} ${offset} ${bytes}`;
}

/** Nothing is read that nobody expects: what lies between two frames is often expected by somebody else. */
function takesIn(span: Span, { name, offset, bytes }: FramePlace, { spanBytesMax }: SpanLimits): boolean {
  return name === span.name && offset === span.end && offset + bytes - span.offset <= spanBytesMax;
}

function startAt({ name, offset }: FramePlace, previous: Span | undefined): Span {
  const frames = new Map<string, FramePlace>();
  const none = { waiting: 0, released: false, reading: undefined, next: undefined };
  const span: Span = { name, offset, end: offset, frames, previous, ...none };
  if (previous !== undefined) previous.next = span;
  return span;
}
