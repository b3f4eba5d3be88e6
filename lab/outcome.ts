/**
 * From what happened in one run of a scenario to its figures, and from the
 * figures of its runs to the row of the table.
 *
 * @module
 */

import type { CommandEnd } from "./command_process.ts";
import { compare, type Comparison } from "./compare.ts";
import { producerOf } from "./packets.ts";
import type { Record } from "./record.ts";
import type { Expectation, Named, Scenario } from "./scenario.ts";
import { GIVEN_UP, type LogEvent } from "./sender_log.ts";

/** What one run left behind. */
export interface Evidence {
  /** What each producer sent, by its letter, in order. */
  readonly sent: ReadonlyMap<string, readonly string[]>;
  /** What the server read. */
  readonly record: Record;
  /** The log of every life of the sender. */
  readonly events: readonly LogEvent[];
  /** Ends of the senders that were not killed. */
  readonly ends: readonly CommandEnd[];
  /** Packets that lay on disk when a sender was killed: all that it may have sent unconfirmed. */
  readonly onDiskAtDeaths: number;
  /** When the first fault began and when it was in effect. */
  readonly fault: { readonly beginsMs: number; readonly doneMs: number } | undefined;
  /** When the last heal was in effect, and how many packets had been given until then. */
  readonly heal: { readonly doneMs: number; readonly given: number } | undefined;
  readonly secondSender: CommandEnd | undefined;
  readonly seconds: number;
}

/** The figures of one run. */
export interface Figures {
  readonly sent: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  /** Packets in flight or held whenever a connection was given up or the sender died. */
  readonly duplicatesBound: number;
  /** The first verdict after the fault. */
  readonly verdict: Named | undefined;
  /** It, in the command's words. */
  readonly words: string | undefined;
  /** From the fault to it. */
  readonly noticedSeconds: number | undefined;
  /** From the heal until the server had read all that was sent before. */
  readonly deliveredSeconds: number | undefined;
  readonly connections: number;
  readonly seconds: number;
  /** What went against the expectations, but for times. */
  readonly failures: readonly string[];
}

/** A row of the table: one scenario, all its runs. */
export interface Row extends Omit<Figures, "words" | "seconds"> {
  readonly scenario: string;
  readonly title: string;
  readonly runs: number;
  /** Packets were lost, as the scenario expects: what it shows, and no failure. */
  readonly lossExpected: boolean;
  /** Set when it could not run here. */
  readonly skipped?: string;
}

/** Takes the figures. */
export function figuresOf(scenario: Scenario, evidence: Evidence): Figures {
  const { sent, record, events, ends, fault, heal } = evidence;
  const comparisons = [...sent].map(([producer, packets]) =>
    compare(packets, packetsOf(record, producer))
  );
  const sum = (figure: (comparison: Comparison) => number) =>
    comparisons.reduce((total, comparison) => total + figure(comparison), 0);
  const strangers = record.flatMap(({ packets }) => packets)
    .filter(({ bytes }) => !sent.has(producerOf(bytes))).length;
  const notice = fault &&
    events.find(({ named, atMs }) => named !== undefined && atMs >= fault.beginsMs);
  const measured = {
    sent: sum((comparison) => comparison.sent),
    lost: sum((comparison) => comparison.lost.length),
    duplicated: sum((comparison) => comparison.duplicated),
    outOfOrder: sum((comparison) =>
      comparison.outOfOrderWithinConnection + comparison.gapsWithinConnection +
      comparison.duplicatedWithinConnection
    ),
    duplicatesBound: evidence.onDiskAtDeaths +
      events.reduce((total, { toSendAgain }) => total + toSendAgain, 0),
    verdict: notice?.named,
    words: notice?.message,
    noticedSeconds: notice && fault && Math.max(0, notice.atMs - fault.doneMs) / 1000,
    deliveredSeconds: heal && deliveredSeconds(sent, record, heal),
    connections: events.filter(({ message }) => message.startsWith("connected to")).length,
    seconds: evidence.seconds,
  };
  const failures: string[] = [];
  const check = (holds: boolean, words: string) => {
    if (!holds) failures.push(words);
  };
  const torn = sum((comparison) => comparison.unknown) + strangers;
  check(torn === 0, `${torn} packets were read that nobody had sent`);
  check(measured.outOfOrder === 0, `${measured.outOfOrder} times out of order in a connection`);
  check(
    measured.duplicated <= measured.duplicatesBound,
    `${measured.duplicated} duplicates, ${measured.duplicatesBound} were in flight or held`,
  );
  const strange = events.filter(({ saysMs }) => Number.isNaN(saysMs));
  check(strange.length === 0, `send wrote: ${strange.map(({ message }) => message).join("; ")}`);
  for (const { code, signal, last } of ends) {
    const kept = last?.fields["queuedPackets"];
    check(
      code === 0 && kept === 0,
      `send ended with ${signal ?? code}, ${kept} packets kept: ${last?.message}`,
    );
  }
  failures.push(...unexpected(scenario.expect, measured, evidence));
  return { ...measured, failures };
}

/** Puts the runs of one scenario together: the worst of counts, the median of times. */
export function rowOf(scenario: Scenario, runs: readonly Figures[]): Row {
  const { name, title, expect } = scenario;
  const worst = (figure: (run: Figures) => number) => Math.max(...runs.map(figure));
  const times = (figure: (run: Figures) => number | undefined) => {
    return median(runs.map(figure).filter((value) => value !== undefined));
  };
  const noticedSeconds = times((run) => run.noticedSeconds);
  const deliveredSeconds = times((run) => run.deliveredSeconds);
  const failures = new Set(runs.flatMap((run) => run.failures));
  const late = (what: string, seconds: number | undefined, limit: number | undefined) => {
    if (limit === undefined || (seconds !== undefined && seconds <= limit)) return;
    failures.add(`${what} ${seconds === undefined ? "never" : `after ${seconds.toFixed(2)} s`}`);
  };
  late("noticed", noticedSeconds, expect.noticedWithinSeconds);
  late("delivered", deliveredSeconds, expect.deliveredWithinSeconds);
  return {
    scenario: name,
    title,
    runs: runs.length,
    sent: worst((run) => run.sent),
    lost: worst((run) => run.lost),
    lossExpected: expect.lost === "some" && runs.some((run) => run.lost > 0),
    duplicated: worst((run) => run.duplicated),
    outOfOrder: worst((run) => run.outOfOrder),
    duplicatesBound: worst((run) => run.duplicatesBound),
    verdict: runs.find(({ verdict }) => verdict !== undefined)?.verdict,
    noticedSeconds,
    deliveredSeconds,
    connections: worst((run) => run.connections),
    failures: [...failures],
  };
}

/** A row for a scenario that could not run. */
export function skippedRow({ name, title }: Scenario, reason: string): Row {
  const nothing = { sent: 0, lost: 0, duplicated: 0, outOfOrder: 0, duplicatesBound: 0 };
  return {
    ...{ scenario: name, title, runs: 0, ...nothing, connections: 0, failures: [] },
    lossExpected: false,
    ...{ verdict: undefined, noticedSeconds: undefined, deliveredSeconds: undefined },
    skipped: reason,
  };
}

function unexpected(
  expect: Expectation,
  measured: Omit<Figures, "failures">,
  { events, secondSender }: Evidence,
): string[] {
  const failures: string[] = [];
  if (expect.lost !== "some" && measured.lost > 0) failures.push(`${measured.lost} packets lost`);
  if (measured.duplicated > (expect.duplicated ?? Infinity)) {
    failures.push(`${measured.duplicated} duplicates instead of ${expect.duplicated}`);
  }
  const verdicts = [expect.verdict ?? []].flat();
  if (verdicts.length > 0 && !verdicts.some((verdict) => verdict === measured.verdict)) {
    failures.push(`named ${measured.verdict ?? "nothing"} instead of ${verdicts.join(" or ")}`);
  }
  if (expect.connections !== undefined && measured.connections !== expect.connections) {
    const why = events.find(({ message }) => message.startsWith(GIVEN_UP))?.message;
    failures.push(
      `${measured.connections} connections instead of ${expect.connections} (${why ?? "in order"})`,
    );
  }
  const { says, secondSenderSays } = expect;
  if (says !== undefined && !events.some(({ message }) => says.test(message))) {
    failures.push(`send never said ${says}`);
  }
  if (secondSenderSays !== undefined) {
    const words = secondSender?.last?.message ?? "nothing";
    if (secondSender?.code !== 1 || !secondSenderSays.test(words)) {
      failures.push(`the second sender exited ${secondSender?.code} and said: ${words}`);
    }
  }
  if (expect.clockMoved) {
    const jumps = events.map(({ atMs, saysMs }) => saysMs - atMs);
    // The hour, give or take what starting and reading take.
    if (!(Math.max(...jumps) > 3_500_000 && Math.min(...jumps) < -3_500_000)) {
      failures.push("the sender's clock did not move: nothing was tested");
    }
  }
  return failures;
}

function packetsOf(record: Record, producer: string): Record {
  return record.map((connection) => ({
    ...connection,
    packets: connection.packets.filter(({ bytes }) => producerOf(bytes) === producer),
  }));
}

/** Until the last of the packets given before the heal was read for the first time. */
function deliveredSeconds(
  sent: Evidence["sent"],
  record: Record,
  heal: { readonly doneMs: number; readonly given: number },
): number | undefined {
  const waiting = new Set([...sent.values()][0]?.slice(0, heal.given));
  let lastMs = heal.doneMs;
  const decoder = new TextDecoder();
  const reads = record.flatMap(({ packets }) => packets)
    .sort((a, b) => a.readAtMs - b.readAtMs);
  for (const { bytes, readAtMs } of reads) {
    if (waiting.delete(decoder.decode(bytes))) lastMs = Math.max(lastMs, readAtMs);
  }
  return waiting.size === 0 ? (lastMs - heal.doneMs) / 1000 : undefined;
}

function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
