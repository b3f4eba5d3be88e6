/**
 * What a soak came to: the table, and what is wrong with it.
 *
 * @module
 */

import type { Missing } from "./tally.ts";
import { type Sample, type Tolerance, type Trend, trendOf } from "./trend.ts";

/** All that a soak has counted. */
export interface Figures {
  readonly seed: number;
  /** How long there was traffic. */
  readonly seconds: number;
  /** Ended by a signal: what was under way then is not judged. */
  readonly interrupted: boolean;
  /** Why it could not be brought to its end. */
  readonly wrong: string | undefined;
  /** Faults by kind. */
  readonly faults: ReadonlyMap<string, number>;
  /** Connections given up, by verdict. */
  readonly givenUp: ReadonlyMap<string, number>;
  readonly connections: number;
  /** Lives of the sending process. */
  readonly senders: number;
  /** Lives of the server. */
  readonly servers: number;
  /** Packets for which enqueue has resolved. */
  readonly stored: number;
  /** Those of them that no server has read. */
  readonly missing: Missing;
  /** Those of the missing ones that were passed over: a later one was read. */
  readonly skipped: Missing;
  /** What lay in the file at the end; undefined where the end was not reached. */
  readonly leftOnDisk: { readonly packets: number; readonly deadPackets: number } | undefined;
  /** Whole packets that servers have read, duplicates included. */
  readonly read: number;
  readonly duplicates: number;
  /** Packets in flight or held whenever a connection ended, or on disk when the sender died. */
  readonly duplicatesBound: number;
  readonly outOfOrder: number;
  readonly damaged: number;
  readonly samples: readonly Sample[];
}

const MIB = 1024 ** 2;

/**
 * V8 doubles the space for new objects when bursts fill it: up to 16 MiB, three times. That comes
 * once, at any time, and says nothing.
 */
const RSS: Tolerance = { factor: 1.1, more: 32 * MIB };
/** What is alive tells a leak much sooner. */
const LIVE: Tolerance = { factor: 1.1, more: 2 * MIB };

/** What is sampled, and which growth is none; see docs/RELIABILITY.md. */
const TRENDS: readonly {
  readonly title: string;
  readonly value: (sample: Sample) => number;
  readonly tolerance: Tolerance;
  readonly show: (value: number) => string;
}[] = [
  {
    title: "sender's memory (RSS)",
    value: ({ rssBytes }) => rssBytes,
    tolerance: RSS,
    show: mebibytes,
  },
  {
    title: "sender's objects and buffers",
    value: ({ liveBytes }) => liveBytes,
    tolerance: LIVE,
    show: mebibytes,
  },
  {
    title: "sender's descriptors",
    value: ({ descriptors }) => descriptors,
    tolerance: { factor: 1, more: 4 },
    show: (value) => value.toFixed(0),
  },
  {
    title: "queue's log (WAL)",
    value: ({ walBytes }) => walBytes,
    tolerance: { factor: 1.1, more: 4 * MIB },
    show: mebibytes,
  },
  {
    title: "enqueuer's memory (RSS)",
    value: ({ enqueuerRssBytes }) => enqueuerRssBytes,
    tolerance: RSS,
    show: mebibytes,
  },
  {
    title: "enqueuer's objects and buffers",
    value: ({ enqueuerLiveBytes }) => enqueuerLiveBytes,
    tolerance: LIVE,
    show: mebibytes,
  },
];

/** What went against the promise; nothing if all is well. */
export function failuresOf(figures: Figures): string[] {
  const { interrupted, wrong, missing, skipped, leftOnDisk, duplicates, duplicatesBound } = figures;
  const { outOfOrder, damaged } = figures;
  const failures = wrong === undefined ? [] : [wrong];
  const check = (holds: boolean, words: string) => {
    if (!holds) failures.push(words);
  };
  // What was on its way when the run broke off is not lost; what was passed over is.
  const ended = leftOnDisk !== undefined;
  const { lost } = ended ? missing : skipped;
  check(lost === 0, `${lost} packets lost`);
  check(duplicates <= duplicatesBound, `${duplicates} duplicates, at most ${duplicatesBound}`);
  check(outOfOrder === 0, `${outOfOrder} times out of order within a connection`);
  check(damaged === 0, `${damaged} packets were read that nobody had sent`);
  check(ended || interrupted || wrong !== undefined, "the end was not reached");
  check((leftOnDisk?.packets ?? 0) === 0, `${leftOnDisk?.packets} packets left on disk`);
  check((leftOnDisk?.deadPackets ?? 0) === 0, `${leftOnDisk?.deadPackets} dead letters`);
  for (const { title, trend, show } of trendsOf(figures)) {
    check(!ended || trend.second !== undefined, `${title}: too few samples to compare`);
    check(
      !trend.grows,
      `${title} grows: ${show(trend.second ?? 0)}, then ${show(trend.last ?? 0)}`,
    );
  }
  return failures;
}

/** The table in Markdown, with columns of one width. */
export function formatTable(figures: Figures): string {
  const { seconds, stored, missing, skipped, leftOnDisk, read } = figures;
  const { duplicates, duplicatesBound, outOfOrder, damaged } = figures;
  const { lost, diedUnread } = leftOnDisk === undefined ? skipped : missing;
  const waiting = missing.lost + missing.diedUnread - lost - diedUnread;
  const left = leftOnDisk === undefined
    ? "–"
    : `${leftOnDisk.packets}, ${leftOnDisk.deadPackets} dead letters`;
  const rows: (readonly [string, string, string])[] = [
    ["seed", String(figures.seed), ""],
    ["seconds of traffic", seconds.toFixed(0), ""],
    ["faults", counts(figures.faults), ""],
    ["lives of sender, server", `${figures.senders}, ${figures.servers}`, ""],
    ["connections", String(figures.connections), ""],
    ["of these given up", counts(figures.givenUp), ""],
    ["packets stored", `${stored} (${(stored / Math.max(1, seconds)).toFixed(0)}/s)`, ""],
    ["packets read", String(read), ""],
    ["lost", String(lost), "0"],
    ["died unread, which no kernel can tell", String(diedUnread), "0 if the server keeps up"],
    ["not read yet when it ended", String(waiting), figures.interrupted ? "" : "0"],
    ["left on disk", left, "0, 0 dead letters"],
    ["duplicates", String(duplicates), `at most ${duplicatesBound}`],
    ["out of order within a connection", String(outOfOrder), "0"],
    ["torn, merged or invented", String(damaged), "0"],
    ...trendsOf(figures).map(({ title, trend, tolerance, show }) => {
      const { second, last, allowed } = trend;
      const measured = second === undefined || last === undefined
        ? "too few samples"
        : `${show(second)}, then ${show(last)}`;
      const growth = `${tolerance.factor === 1 ? "" : `× ${tolerance.factor} `}+ ${
        show(tolerance.more)
      }`;
      return [title, measured, `at most ${show(allowed)} (${growth})`] as const;
    }),
  ];
  return table([["figure", "measured", "expected"], ...rows]);
}

function trendsOf(
  { samples }: Figures,
): (typeof TRENDS[number] & { readonly trend: Trend })[] {
  return TRENDS.map((figure) => ({
    ...figure,
    trend: trendOf(samples.map(figure.value), figure.tolerance),
  }));
}

function table(rows: readonly (readonly string[])[]): string {
  const columns = rows[0]?.map((_, column) => column) ?? [];
  const widths = columns.map((column) => Math.max(...rows.map((row) => width(row[column]))));
  const lines = rows.map((row) =>
    `| ${row.map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - width(cell))).join(" | ")} |`
  );
  lines.splice(1, 0, `| ${widths.map((columns) => "-".repeat(columns)).join(" | ")} |`);
  return lines.join("\n") + "\n";
}

function counts(byName: ReadonlyMap<string, number>): string {
  const parts = [...byName].toSorted().map(([name, count]) => `${count} ${name}`);
  return parts.join(", ") || "none";
}

function mebibytes(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}

function width(text = ""): number {
  return [...text].length;
}
