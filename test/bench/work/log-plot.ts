/** A plot in plain text with both axes logarithmic: what grows as the size does climbs a decade with each. */

interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Series {
  readonly name: string;
  /** Both coordinates above 0, x ascending. */
  readonly points: readonly Point[];
}

const COLUMNS = 20;
const ROWS = 5;
const MARKS = 'abcdefghij';

/** Whole decades around the values. */
function axisOf(values: readonly number[], cellsOfDecade: number) {
  const from = Math.floor(Math.log10(Math.min(...values)));
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(...values))) - from);
  const label = (n: number) => (10 ** (from + n)).toLocaleString('en-US', { maximumFractionDigits: 6 });
  return { decades, label, cell: (value: number) => Math.round((Math.log10(value) - from) * cellsOfDecade) };
}

export function logPlot(title: string, xTitle: string, series: readonly Series[]): string {
  const points = series.flatMap((each) => each.points);
  const x = axisOf(
    points.map((point) => point.x),
    COLUMNS,
  );
  const y = axisOf(
    points.map((point) => point.y),
    ROWS,
  );
  const rows = Array.from({ length: y.decades * ROWS + 1 }, () => new Map<number, string>());
  /** Marks that meet stand side by side. */
  const mark = (text: string, point: Point) => {
    const row = rows[y.cell(point.y)];
    let column = x.cell(point.x);
    while (row?.has(column)) column += 1;
    row?.set(column, text);
  };
  const line = (from: Point, to: Point) => {
    const steps = (x.cell(to.x) - x.cell(from.x)) / 2;
    for (let step = 1; step < steps; step += 1) {
      const between = (a: number, b: number) => a * (b / a) ** (step / steps);
      const row = rows[y.cell(between(from.y, to.y))];
      const column = x.cell(between(from.x, to.x));
      if (!row?.has(column)) row?.set(column, '.');
    }
  };
  for (const [n, { points }] of series.entries()) for (const point of points) mark(MARKS[n] ?? '?', point);
  for (const { points } of series) {
    for (const [n, to] of points.slice(1).entries()) line(points[n] ?? to, to);
  }
  const labels = rows.map((_, row) => (row % ROWS === 0 ? y.label(row / ROWS) : ''));
  const margin = Math.max(...labels.map((label) => label.length));
  const indent = ' '.repeat(margin + 2);
  const plotted = rows.map((row, n) => {
    const cells = Array.from({ length: Math.max(0, ...row.keys()) + 1 }, (_, column) => row.get(column) ?? ' ');
    return `${labels[n]?.padStart(margin)} |${cells.join('')}`.trimEnd();
  });
  const ticks = Array.from({ length: x.decades + 1 }, (_, n) => x.label(n).padEnd(COLUMNS)).join('');
  return [
    title,
    '',
    ...plotted.toReversed(),
    `${' '.repeat(margin)} +${'-'.repeat(x.decades * COLUMNS)}`,
    `${indent}${ticks.trimEnd()}  ${xTitle}`,
    ...series.map(({ name }, n) => `${indent}${MARKS[n]}  ${name}`),
  ].join('\n');
}
