/** What a benchmark reports: figures beside what arithmetic says of them, as Markdown tables or as JSON. */
import { availableParallelism, totalmem } from 'node:os';

const MiB = 1024 * 1024;

export interface Figure {
  readonly figure: string;
  readonly measured: number;
  readonly unit: 'count' | 'bytes' | 'seconds' | 'per second' | 'dollars';
  /** What arithmetic says that it is. */
  readonly expected?: number | undefined;
  /** What it must not exceed. */
  readonly limit?: number | undefined;
}

export interface Section {
  readonly title: string;
  readonly figures: readonly Figure[];
}

export interface Machine {
  readonly node: string;
  readonly cores: number;
  readonly memoryGiB: number;
}

export function machine(): Machine {
  return {
    node: process.version,
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 1024 / MiB),
  };
}

export function formatCount(count: number): string {
  const digits = Number.isInteger(count) || Math.abs(count) >= 100 ? 0 : 1;
  return count.toLocaleString('en-US', { maximumFractionDigits: digits });
}

export function formatBytes(bytes: number): string {
  if (bytes < 10_000) return `${formatCount(bytes)} B`;
  if (bytes < MiB) return `${formatCount(bytes / 1024)} KiB`;
  return bytes < 10_000 * MiB ? `${formatCount(bytes / MiB)} MiB` : `${formatCount(bytes / MiB / 1024)} GiB`;
}

export function formatDollars(dollars: number): string {
  return `$${dollars < 1 ? dollars.toPrecision(2) : formatCount(dollars)}`;
}

export function formatSeconds(seconds: number): string {
  return `${seconds < 10 ? seconds.toFixed(2) : formatCount(seconds)} s`;
}

function format(value: number, unit: Figure['unit']): string {
  if (unit === 'bytes') return formatBytes(value);
  if (unit === 'seconds') return formatSeconds(value);
  if (unit === 'per second') return `${formatCount(Math.round(value))}/s`;
  return unit === 'dollars' ? formatDollars(value) : formatCount(value);
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, at) => (at === 0 ? '---' : '---:'));
  return [head, rule, ...rows].map(line).join('\n');
}

export function formatSection({ title, figures }: Section): string {
  const rows = figures.map(({ figure, measured, unit, expected, limit }) => {
    const beside = [
      expected === undefined ? [] : [format(expected, unit)],
      limit === undefined ? [] : [`at most ${format(limit, unit)}`],
    ];
    return [figure, format(measured, unit), beside.flat().join(', ')];
  });
  return `### ${title}\n\n${markdownTable(['figure', 'measured', 'arithmetic'], rows)}\n`;
}
