/**
 * Reads frames, neighbours of one blob in one request where somebody said that they will be needed: the bytes come in
 * fewer and longer reads, and the next are on their way while these are used.
 *
 * What is expected is cut into spans; nothing is read before the first frame of a span is asked for. Then the span is
 * streamed, and the one expected after it; each frame is there as soon as its last byte is, and the stream waits while as
 * many frames as may be held wait for somebody. Expecting never makes anyone wait and never fails: a frame that is in no
 * span, or in one that could not be read, or that lies too far behind others that nobody took, is read by itself, and its
 * error is the frame's own. Memory is bounded by `heldBytesMax`, one frame for each who waits, and what a connection buffers.
 */
import { freeBuffer } from '../sealing/free-buffer.ts';
import { abortable } from '../storage/abortable.ts';
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';
import { sum } from './chunk-blobs.ts';

/** Of most pieces of a long answer: what Node.js takes out of TLS at once; from plain sockets it takes 64 KiB. */
const SOCKET_PIECE_BYTES = 16 * 1024;

/** In bytes. */
export interface SpanLimits {
  /** Longer than any tar chunk that Firn writes: a request for each of them. */
  readonly spanBytesMax: number;
  /** Of frames that came, or are coming, and were not taken yet, in all spans. */
  readonly heldBytesMax: number;
}

const MiB = 1024 * 1024;
const limitsOfDesign: SpanLimits = { spanBytesMax: 32 * MiB, heldBytesMax: 8 * MiB };

/** Where the sealed bytes of a frame lie. */
export interface FramePlace {
  /** Name of the blob. */
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

interface ExpectedFrame {
  readonly place: FramePlace;
  readonly span: Span;
  /** Undefined where it did not come. */
  readonly arrival: PromiseWithResolvers<Buffer | undefined>;
  /** There is memory for it, counted in the bytes that are held. */
  hasRoom: boolean;
}

interface Span {
  readonly name: string;
  readonly offset: number;
  end: number;
  /** Not taken yet, in the order of their offsets. */
  readonly frames: Set<ExpectedFrame>;
  /** Of those, how many are being waited for. */
  waiting: number;
  /** No more of them will be asked for. */
  released: boolean;
  /** Ends its stream; undefined until it is read. */
  stop: AbortController | undefined;
  /** What was expected before and after it. */
  previous: Span | undefined;
  next: Span | undefined;
}

export class SpanReader {
  readonly #data: Pick<BlobStore, 'readStream'>;
  readonly #frames = new Map<string, ExpectedFrame>();
  readonly #limits: SpanLimits;
  #heldBytes = 0;
  /** Resolves when a stream that waits for room should look again. */
  #change = Promise.withResolvers<void>();

  constructor(data: Pick<BlobStore, 'readStream'>, limits = limitsOfDesign) {
    this.#data = data;
    this.#limits = limits;
  }

  /** Of all frames that came, or are coming, and were not taken yet. */
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
      if (this.#frames.has(key)) continue;
      let span = spans.at(-1);
      if (span === undefined || !takesIn(span, place, this.#limits)) {
        span = startAt(place, span);
        spans.push(span);
      }
      span.end = place.offset + place.bytes;
      const frame: ExpectedFrame = { place, span, arrival: Promise.withResolvers(), hasRoom: false };
      span.frames.add(frame);
      this.#frames.set(key, frame);
    }
    return () => {
      for (const span of spans) {
        span.released = true;
        if (span.waiting === 0) this.#drop(span);
      }
    };
  }

  /**
   * A frame out of the span that it is expected in, as it came, which belongs to the caller then; undefined where it has
   * to be read by itself, as by a second caller.
   */
  async take(place: FramePlace, { signal }: CallOptions = {}): Promise<Buffer | undefined> {
    const frame = this.#frames.get(keyOf(place));
    if (frame === undefined) return undefined;
    const { span } = frame;
    // Some of its frames may never be asked for.
    if (span.previous?.previous?.waiting === 0) this.#drop(span.previous.previous);
    this.#begin(span);
    if (span.next !== undefined) this.#begin(span.next);
    const isComing = this.#makeRoomUpTo(frame);
    span.waiting += 1;
    try {
      const bytes = isComing ? await abortable(frame.arrival.promise, signal) : undefined;
      return span.frames.has(frame) ? bytes : undefined;
    } finally {
      // Also that of somebody who left: its room was made for him.
      this.#forget(frame);
      span.waiting -= 1;
      if (span.frames.size === 0 || (span.released && span.waiting === 0)) this.#drop(span);
    }
  }

  #begin(span: Span): void {
    if (span.stop !== undefined) return;
    span.stop = new AbortController();
    this.#stream(span, span.stop.signal);
  }

  /** Never fails: what it could not bring, whoever waits for it reads by himself. */
  async #stream(span: Span, signal: AbortSignal): Promise<void> {
    // Those before it were read by themselves.
    const [first] = span.frames;
    if (first === undefined) return;
    let at = first.place.offset;
    let pieces: Pieces | undefined;
    try {
      const { body } = await this.#data.readStream(span.name, { offset: at, length: span.end - at, signal });
      pieces = new Pieces(body);
      // Frames that are taken or dropped meanwhile do not come any more in this loop.
      for (const frame of span.frames) {
        await this.#roomFor(frame);
        if (!frame.hasRoom) continue;
        const { offset, bytes } = frame.place;
        await pieces.skip(offset - at);
        const whole = await pieces.take(bytes);
        at = offset + bytes;
        // Before anybody has reason to stop it, so that its connection can be used again.
        if (at === span.end) await pieces.end();
        frame.arrival.resolve(whole);
      }
    } catch {
      // Said by the frames, each for itself.
    } finally {
      for (const { arrival } of span.frames) arrival.resolve(undefined);
      await pieces?.leave();
    }
  }

  /** Waits until there is memory for it, or nobody needs it any more. */
  async #roomFor(frame: ExpectedFrame): Promise<void> {
    const { span, place } = frame;
    while (!frame.hasRoom && span.frames.has(frame)) {
      if (this.#heldBytes + place.bytes <= this.#limits.heldBytesMax) this.#giveRoom(frame);
      else await this.#change.promise;
    }
  }

  /** @returns false where it lies behind others that would not fit. */
  #makeRoomUpTo(frame: ExpectedFrame): boolean {
    if (frame.hasRoom) return true;
    const without: ExpectedFrame[] = [];
    for (const each of frame.span.frames) {
      if (!each.hasRoom) without.push(each);
      if (each === frame) break;
    }
    const bytes = sum(without, ({ place }) => place.bytes);
    // Who waits for the next would have its bytes in memory in any case.
    if (without.length > 1 && this.#heldBytes + bytes > this.#limits.heldBytesMax) return false;
    for (const each of without) this.#giveRoom(each);
    this.#changed();
    return true;
  }

  #giveRoom(frame: ExpectedFrame): void {
    frame.hasRoom = true;
    this.#heldBytes += frame.place.bytes;
  }

  #forget(frame: ExpectedFrame): void {
    const { span, place } = frame;
    if (!span.frames.delete(frame)) return;
    this.#frames.delete(keyOf(place));
    // Where it has not come yet it never will: whoever else waits for it reads it by himself.
    frame.arrival.resolve(undefined);
    if (frame.hasRoom) this.#heldBytes -= place.bytes;
    frame.hasRoom = false;
    this.#changed();
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  #drop(span: Span): void {
    for (const frame of span.frames) this.#forget(frame);
    span.stop?.abort(dropped);
    if (span.previous !== undefined) span.previous.next = span.next;
    if (span.next !== undefined) span.next.previous = span.previous;
    span.previous = undefined;
    span.next = undefined;
  }
}

/** Made once: a reason that `abort` makes for itself takes a stack each time, and nobody reads it. */
const dropped = new Error('Nobody needs the rest of the span.');

/** Bytes in the lengths that are wanted, out of pieces in the lengths that they come in. */
class Pieces {
  readonly #pieces: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(pieces: AsyncIterable<Buffer>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  async take(bytes: number): Promise<Buffer> {
    const whole = Buffer.allocUnsafeSlow(bytes);
    for (let filled = 0; filled < bytes; ) {
      const piece = await this.#piece();
      const copied = piece.copy(whole, filled);
      this.#rest = piece.subarray(copied);
      filled += copied;
      // A part may share its memory with pieces that are still to come.
      if (copied === piece.buffer.byteLength) freeBuffer(piece, SOCKET_PIECE_BYTES);
    }
    return whole;
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      const piece = await this.#piece();
      const skipped = Math.min(left, piece.length);
      this.#rest = piece.subarray(skipped);
      left -= skipped;
    }
  }

  /** Waits for the end of what was read whole. */
  async end(): Promise<void> {
    while (!(await this.#pieces.next()).done);
  }

  async leave(): Promise<void> {
    await this.#pieces.return?.().catch(() => undefined);
  }

  async #piece(): Promise<Buffer> {
    if (this.#rest.length > 0) return this.#rest;
    const { done, value } = await this.#pieces.next();
    if (done) throw new Error('the stream ended too early');
    return value;
  }
}

function keyOf({ name, offset, bytes }: FramePlace): string {
  return `${name} ${offset} ${bytes}`;
}

/** Nothing is read that nobody expects: what lies between two frames is often expected by somebody else. */
function takesIn(span: Span, { name, offset, bytes }: FramePlace, { spanBytesMax }: SpanLimits): boolean {
  return name === span.name && offset === span.end && offset + bytes - span.offset <= spanBytesMax;
}

function startAt({ name, offset }: FramePlace, previous: Span | undefined): Span {
  const none = { waiting: 0, released: false, stop: undefined, next: undefined };
  const span: Span = { name, offset, end: offset, frames: new Set(), previous, ...none };
  if (previous !== undefined) previous.next = span;
  return span;
}
