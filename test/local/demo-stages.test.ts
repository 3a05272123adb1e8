import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { Output } from '../../src/cli/output.ts';
import { createStages } from '../../src/local/demo/stages.ts';

async function shown(isTTY: boolean): Promise<{ stdout: string; stderr: string }> {
  const stdout = new PassThrough();
  const stderr = Object.assign(new PassThrough(), { isTTY, columns: 80 });
  const output = new Output(stdout, stderr, { json: false, quiet: false, debug: false });
  const stages = createStages(output);
  await stages.run(
    'count',
    async () => 7,
    (result) => `came to ${result}`,
  );
  return { stdout: String(stdout.read()), stderr: String(stderr.read() ?? '') };
}

it('shows a stage with its time and what came of it, and progress on a terminal only', async () => {
  const line = /^ {2}count +\d+\.\d s {3}came to 7\n$/;
  const piped = await shown(false);
  expect(piped.stdout).toMatch(line);
  expect(piped.stderr).toBe('');
  const terminal = await shown(true);
  expect(terminal.stdout).toMatch(line);
  // Taken away again before the line of the stage.
  expect(terminal.stderr).toMatch(/count +…\r.*$/s);
});

it('shows no line for a stage that failed', async () => {
  const stdout = new PassThrough();
  const stages = createStages(new Output(stdout, new PassThrough(), { json: false, quiet: false, debug: false }));
  await expect(stages.run('count', () => Promise.reject(new Error('broken')), String)).rejects.toThrow('broken');
  expect(stdout.read()).toBeNull();
});
