/**
 * Activities that answer instead of failing: an orchestrator then sees all of them end before it decides, and knows
 * whether trying again can help.
 */
import type { ActivityHandler } from 'durable-functions';
import { type ErrorCode, isFirnError, problemOf } from '../../src/errors.ts';
import { runOf, tellStepFailed } from './events.ts';

/** References and small results only: payloads stay in blobs. */
export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: string; readonly reason: string; readonly retryable: boolean };

/** Makes activities. Errors of the codes `final` may pass by themselves, but not within the same orchestration. */
export function answeringExcept(final: readonly ErrorCode[]) {
  return <I, T>(work: (input: I, context: Parameters<ActivityHandler>[1]) => Promise<T>): ActivityHandler =>
    async (input: I, context): Promise<Answer<T>> => {
      try {
        return { ok: true, value: await work(input, context) };
      } catch (error) {
        const code = isFirnError(error) ? error.code : 'FIRN_INTERNAL';
        const retryable = !isFirnError(error) || (error.retryable && !final.includes(error.code));
        const problem = problemOf(error);
        tellStepFailed(context, { code, problem, retryable, run: runOf(input) });
        return { ok: false, code, reason: problem, retryable };
      }
    };
}
