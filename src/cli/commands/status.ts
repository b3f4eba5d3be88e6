/**
 * `sendq status`: a queue at a glance, and its sender where one runs, in
 * whichever process.
 */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import type { ReplicationStats } from "../../base/cluster_stats.ts";
import type { TlsSession } from "../../base/ports.ts";
import { rest } from "../../base/waits.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import type { EdgeLook } from "../../postgres/edges_look.ts";
import { type ForwarderNotice, parseForwarderNotice } from "../../postgres/forwarder_status.ts";
import type { Inspector, QueueCounts } from "../../queue/inspect/inspection.ts";
import { QueueInspector } from "../../queue/inspect/inspector.ts";
import { readSenderNotice, type SenderNotice } from "../../queue/lock_file.ts";
import { standbyWords } from "../../sender/cluster_words.ts";
import { inOneLine } from "../../sender/condition.ts";
import { outageWords } from "../../sender/outage.ts";
import { parseReport, type SenderReport } from "../../sender/report.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { passwordOf, queueNeeds, reportsOf } from "../arguments/queue_place.ts";
import { parseDuration, parseDurationOrNever } from "../arguments/values.ts";
import { StopSignals } from "../session/signals.ts";
import { painted } from "../session/status_view.ts";
import { EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPackets,
  formatThings,
  printable,
} from "../terminal/figures.ts";
import { colorsWelcome, printLine, printText, rowsOf } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { inspectorInSpool, requireQueue, timeOf } from "./queue_view.ts";

/** While waiting for an empty queue, the file is asked this often; it costs microseconds. */
const WAIT_POLL_MS = 50;
/** One bar a look. */
const HISTORY_VALUES = 60;

const HELP = `
What the file says is exact; what the sender says about itself is up to a second
old. With --wait-empty the command ends once the queue is empty, or with exit
code 75 when --timeout has passed.

Examples:
  sendq status -q outbox.db
  sendq status -q outbox.db --watch
  sendq status -q outbox.db --json | jq .sender.condition
  sendq status -q outbox.db --wait-empty --timeout 30s && reboot

Permissions:
  deno run --allow-read=outbox.db,outbox.db.lock \\
    src/cli/main.ts status -q outbox.db
With --allow-read=outbox.db-wal it knows how large SQLite's log is, too.

${EXIT_CODE_HELP}
`;

interface StatusOptions {
  readonly queue: string;
  readonly watch?: boolean;
  readonly interval: number;
  readonly json?: boolean;
  readonly waitEmpty?: boolean;
  readonly timeout?: number;
}

interface Look {
  readonly atMs: number;
  readonly path: string;
  readonly queue: QueueCounts;
  readonly oldestEnqueuedAtMs: number | undefined;
  /** `undefined`: it is no file. */
  readonly fileBytes: number | undefined;
  /** The write-ahead log beside it; `undefined` without the permission to look. */
  readonly logBytes: number | undefined;
  readonly sender: RunningSender | undefined;
  /** Of a queue on PostgreSQL. */
  readonly database?: {
    readonly survives: string;
    readonly weakness: string | null;
    readonly replication: ReplicationStats;
  };
  readonly edges?: readonly EdgeLook[];
}

interface RunningSender {
  /** For people: `"process 4711"`. */
  readonly who: string;
  /** The same for programs. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly report: SenderReport | undefined;
  /** Where it is no sender, but forwards. */
  readonly forwarder?: ForwarderNotice | undefined;
}

/** What is looked at, again and again. */
interface Source extends Disposable {
  look(): Promise<Look>;
  packets(): Promise<number>;
}

export function statusCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("status")
    .summary("show a queue and its sender")
    .description("Show a queue at a glance, and its sender where one runs.");
  const options = new OptionAdder(command).group("Queue");
  addQueueOption(options, QUEUE_THERE);
  options
    .group("Output")
    .flag("--json", "print an object; with --watch one a line, at each look")
    .flag("-w, --watch", "go on looking, until Ctrl-C")
    .value("--interval <time>", "between two looks of --watch", parseDuration, [1000, "1s"])
    .group("Waiting")
    .flag("--wait-empty", "first wait until the queue is empty")
    .value("--timeout <time>", "wait no longer than this (default: never)", parseDurationOrNever);
  return command
    .addHelpText("after", HELP)
    .action(async (options: StatusOptions) => finish(await status(options, io)));
}

async function status(options: StatusOptions, io: Stdio): Promise<ExitCode> {
  const { queue: path, watch = false, waitEmpty = false, timeout } = options;
  if (timeout !== undefined && !waitEmpty) throw new UsageError("--timeout needs --wait-empty");
  if (watch && waitEmpty) throw new UsageError("--watch and --wait-empty cannot be combined");
  if (options.interval < 100) throw new UsageError("--interval must be 100ms or more");
  using queue = await sourceAt(path);
  if (watch) await watchQueue(queue, options, io);
  else {
    const empty = waitEmpty ? await waitUntilEmpty(queue, timeout ?? Infinity) : true;
    await printLine(
      io,
      options.json ? asJson(await queue.look()) : asText(await queue.look(), io).join("\n"),
    );
    if (!empty) return ExitCode.PACKETS_KEPT;
  }
  return ExitCode.DONE;
}

async function sourceAt(queue: string): Promise<Source> {
  if (isQueueUrl(queue)) return await sourceInDatabase(queue);
  return isSpoolAddress(queue) ? await sourceInSpool(queue) : await sourceInFile(queue);
}

async function sourceInFile(path: string): Promise<Source> {
  checkPermissions({ queuesToLookInto: [path] });
  requireQueue(path);
  const queue = await QueueInspector.open(path);
  return sourceOf(queue, { file: queue.path, notice: () => readSenderNotice(queue.path) });
}

async function sourceInSpool(address: string): Promise<Source> {
  const { file, name } = parseSpoolAddress(address);
  checkPermissions({ queuesToLookInto: [file], files: reportsOf(address) });
  requireQueue(address);
  const { noticesIn } = await import("../../spool/inspector.ts");
  const queue = await inspectorInSpool(address);
  return sourceOf(queue, { file, notice: await noticesIn(file, name) });
}

/** Where a queue in a file, or in a spool, is looked at besides its packets. */
interface FileLook {
  readonly file: string;
  /** What its sender says, where one runs. */
  notice(): Promise<SenderNotice | undefined>;
}

function sourceOf(queue: Inspector, place: FileLook): Source {
  return {
    look: () => look(queue, place),
    packets: async () => (await queue.counts()).packets,
    [Symbol.dispose]: () => queue[Symbol.dispose](),
  };
}

async function sourceInDatabase(url: string): Promise<Source> {
  checkPermissions(queueNeeds(url));
  const { lookerAt } = await import("../../postgres/look.ts");
  const looker = lookerAt({ url, ...passwordOf(url) });
  const look = async (): Promise<Look> => {
    const { counts, oldestEnqueuedAtMs, lease, notice, edges, ...database } = await looker.look();
    const { survives, weakness, replication } = database;
    const { holder, epoch, beatAgeMs } = lease;
    return {
      atMs: systemClock.wallMs(),
      path: looker.path,
      queue: counts,
      oldestEnqueuedAtMs,
      ...{ fileBytes: undefined, logBytes: undefined },
      sender: holder === undefined ? undefined : {
        who: `${printable(holder)}, epoch ${formatCount(epoch)}, beat ${
          formatDuration(beatAgeMs)
        } ago`,
        fields: { holder, epoch, beatAgeMs },
        report: parseReport(notice),
      },
      database: { survives, weakness, replication },
      edges,
    };
  };
  return {
    look,
    packets: async () => (await looker.look()).counts.packets,
    [Symbol.dispose]: () => looker.close(),
  };
}

async function look(queue: Inspector, { file, notice }: FileLook): Promise<Look> {
  const running = await notice();
  const counts = await queue.counts();
  return {
    atMs: systemClock.wallMs(),
    path: queue.path,
    queue: counts,
    oldestEnqueuedAtMs: await oldestAtMs(queue, counts),
    fileBytes: Deno.statSync(file).size,
    logBytes: logBytesOf(file),
    sender: running && {
      who: `process ${running.pid}`,
      fields: { pid: running.pid },
      report: parseReport(running.text),
      forwarder: parseForwarderNotice(running.text),
    },
  };
}

/** The oldest packet is the first that has not left the queue. */
async function oldestAtMs(
  queue: Inspector,
  { packets, removedThroughId }: QueueCounts,
): Promise<number | undefined> {
  if (packets === 0) return undefined;
  const fromId = removedThroughId + 1;
  for await (const { enqueuedAtMs } of queue.packets({ fromId, toId: fromId })) return enqueuedAtMs;
  return undefined;
}

function logBytesOf(path: string): number | undefined {
  const log = `${path}-wal`;
  if (Deno.permissions.querySync({ name: "read", path: log }).state !== "granted") return undefined;
  try {
    return Deno.statSync(log).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** @returns Whether it became empty in time. */
async function waitUntilEmpty(queue: Source, timeoutMs: number): Promise<boolean> {
  const deadlineMs = systemClock.nowMs() + timeoutMs;
  for (;;) {
    if (await queue.packets() === 0) return true;
    const leftMs = deadlineMs - systemClock.nowMs();
    if (leftMs <= 0) return false;
    await rest(systemClock, Math.min(WAIT_POLL_MS, leftMs));
  }
}

async function watchQueue(
  queue: Source,
  { interval, json = false }: StatusOptions,
  io: Stdio,
): Promise<void> {
  using signals = new StopSignals();
  const stopped = signals.first.then(() => "stop" as const);
  const depth = new History(HISTORY_VALUES);
  const sendQueue = new History(HISTORY_VALUES);
  const live = io.stdout.isTerminal();
  for (let shown = 0;;) {
    const seen = await queue.look();
    depth.add(seen.queue.packets);
    sendQueue.add(seen.sender?.report?.path?.sendQueueBytes ?? 0);
    let isRead: boolean;
    if (json) isRead = await printLine(io, asJson(seen));
    else {
      const lines = [
        ...asText(seen, io),
        row("packets", `${depth.bars()} up to ${formatCount(depth.highest)}`),
        row("Send-Q", `${sendQueue.bars()} up to ${formatBytes(sendQueue.highest)}`),
      ];
      // On a terminal in the place of the last; elsewhere one below the other.
      const before = live ? (shown > 0 ? `\x1b[${shown}A` : "") + "\x1b[J" : "";
      isRead = await printText(io, `${before}${lines.join("\n")}\n${live ? "" : "\n"}`);
      shown = lines.reduce((rows, line) => rows + rowsOf(line), 0);
    }
    if (!isRead || await Promise.race([stopped, rest(systemClock, interval)]) === "stop") return;
  }
}

function asJson(seen: Look): string {
  const { atMs, path, queue, oldestEnqueuedAtMs, fileBytes, logBytes, sender, database, edges } =
    seen;
  const oldestAgeMs = ageOf(seen);
  return JSON.stringify({
    atMs,
    queue: { path, ...queue, oldestEnqueuedAtMs, oldestAgeMs, fileBytes, logBytes },
    sender: sender === undefined ? null : {
      ...sender.fields,
      ...sender.report,
      ...(sender.forwarder === undefined ? {} : { forwarder: sender.forwarder }),
    },
    ...(database === undefined ? {} : { database }),
    ...(edges === undefined ? {} : { edges }),
  });
}

function ageOf({ oldestEnqueuedAtMs, atMs }: Look): number | undefined {
  return oldestEnqueuedAtMs === undefined ? undefined : Math.max(0, atMs - oldestEnqueuedAtMs);
}

function asText(seen: Look, io: Stdio): string[] {
  const { atMs, path, queue, fileBytes, logBytes, sender, database } = seen;
  const ageMs = ageOf(seen);
  const oldest = ageMs === undefined ? "" : `, the oldest ${formatDuration(ageMs)} old`;
  const log = logBytes === undefined ? "" : ` and log ${formatBytes(logBytes)}`;
  const file = fileBytes === undefined ? "" : `, file ${formatBytes(fileBytes)}${log}`;
  const dead = queue.deadPackets === 0 ? [] : [row("dead", deadWords(queue))];
  const dropped = queue.droppedPackets === 0
    ? []
    : [row("dropped", `${formatPackets(queue.droppedPackets)} for want of room`)];
  return [
    row("queue", printable(path)),
    row("packets", `${formatCount(queue.packets)}, ${formatBytes(queue.bytes)}${oldest}`),
    row("stored", `${formatCount(queue.lastId)} ever${file}`),
    ...(database === undefined ? [] : databaseRows(database)),
    ...dead,
    ...dropped,
    ...senderRows(sender, atMs, io),
    ...edgeRows(seen.edges ?? []),
  ];
}

function databaseRows(
  { survives, replication }: NonNullable<Look["database"]>,
): string[] {
  return [
    row("survives", printable(survives)),
    row("standbys", printable(standbyWords(replication))),
    ...replication.standbys.map(({ name, state, sync, lagBytes, lagMs }) => {
      const late = lagMs === null ? "" : ` and ${formatDuration(lagMs)}`;
      const what = `${name}: ${sync}, ${state}, ${formatBytes(lagBytes)}${late} behind`;
      return row("", printable(what));
    }),
  ];
}

function deadWords(queue: QueueCounts): string {
  const { deadPackets, deadBytes, expiredPackets, gaveUpPackets } = queue;
  const { damagedPackets, refusedPackets } = queue;
  return `${formatThings(deadPackets, "dead letter")}, ` +
    `${formatBytes(deadBytes)}; ever ${formatCount(expiredPackets)} expired, ` +
    `${formatCount(gaveUpPackets)} given up, ${formatCount(damagedPackets)} damaged, ` +
    `${formatCount(refusedPackets)} refused ` +
    "(sendq list --dead)";
}

const CONFIRMED_WORDS: ReadonlyMap<string, string> = new Map([
  ["kernel", "by the server's kernel, and a hold"],
  ["reader", "by the server's program, that has read it"],
  ["answer", "by the server's answers"],
]);

function senderRows(
  sender: Look["sender"],
  atMs: number,
  io: Stdio,
): string[] {
  if (sender === undefined) return [row("sender", "none runs")];
  const { who } = sender;
  const forwarder = printableIn(sender.forwarder);
  if (forwarder !== undefined) return forwarderRows(who, forwarder, atMs, io);
  // Whoever may write the lock file may write anything into it.
  const report = printableIn(sender.report);
  if (report === undefined) return [row("sender", `${who}, which says nothing more`)];
  const { condition } = report;
  const words = colorsWelcome(io.stdout) ? painted(condition) : inOneLine(condition);
  const sinceMs = Math.max(0, atMs - report.startedAtMs);
  return [
    row("sender", `${who}, for ${formatDuration(sinceMs)}, to ${report.remote}`),
    row("state", words),
    ...(report.outage === undefined ? [] : [row("outage", outageWords(report.outage, atMs))]),
    ...(report.storeFailure === undefined ? [] : [
      row(
        "storing",
        `not possible for ${formatDuration(Math.max(0, atMs - report.storeFailure.sinceMs))}: ` +
          report.storeFailure.words,
      ),
    ]),
    ...(report.verdictWords === undefined ? [] : [row("verdict", report.verdictWords)]),
    row(
      "in flight",
      `${formatPackets(report.inFlightPackets)}, ${formatBytes(report.inFlightBytes)}; ` +
        `${formatCount(report.heldPackets)} held`,
    ),
    row("confirmed", CONFIRMED_WORDS.get(report.confirmedBy) ?? report.confirmedBy),
    row(
      "delivered",
      `${formatPackets(report.confirmedPackets)}, ` +
        `${formatBytes(report.ackedBytes)}; ` +
        `${formatCount(report.packetsPerSecond)}/s, ${formatBytes(report.bytesPerSecond)}/s; ` +
        `${formatCount(report.redeliveredPackets)} sent again`,
    ),
    row(
      "connected",
      `${formatTimes(report.connections)}, ${formatCount(report.failedAttempts)} attempts failed`,
    ),
    ...pathRows(report),
    ...report.troubles.map((trouble, i) =>
      row(i === 0 ? "trouble" : "", `${timeOf(trouble.atMs)} ${trouble.words}`)
    ),
  ];
}

function forwarderRows(who: string, forwarder: ForwarderNotice, atMs: number, io: Stdio): string[] {
  const { startedAtMs, edge, to, condition, through, forwardedPackets } = forwarder;
  const sinceMs = Math.max(0, atMs - startedAtMs);
  return [
    row("forwarder", `${who}, for ${formatDuration(sinceMs)}, to ${to}, as edge ${edge}`),
    row("state", colorsWelcome(io.stdout) ? painted(condition) : inOneLine(condition)),
    row(
      "forwarded",
      `${formatPackets(forwardedPackets)}; the cluster has ` +
        (through === null ? "not been asked yet" : `ids up to ${formatCount(through)}`),
    ),
  ];
}

/** One an edge: how far it is, and whether its forwarder lives. */
function edgeRows(edges: readonly EdgeLook[]): string[] {
  return edges.map(({ id, name, through, packets, seenAgoMs, address, notice }) => {
    const who = name === undefined ? `${id} (replaced by another file)` : printable(name);
    const left = notice === undefined || notice.queuedPackets === 0
      ? ""
      : `, ${formatPackets(notice.queuedPackets)} waiting there then`;
    const from = address === undefined ? "" : ` at ${printable(address)}`;
    return row(
      "edge",
      `${who}: ${formatPackets(packets)}, through id ${formatCount(through)}; ` +
        `seen ${formatDuration(seenAgoMs)} ago${from}${left}`,
    );
  });
}

/** The same with every text in it made printable. */
function printableIn<T>(value: T): T {
  return value === undefined ? value : JSON.parse(
    JSON.stringify(value),
    (_, item) => typeof item === "string" ? printable(item) : item,
  );
}

function pathRows({ path, atMs }: SenderReport): string[] {
  if (path === undefined) return [];
  return [
    row("path", `${path.localAddress} to ${path.remoteAddress}`),
    row("", pathWords(path)),
    ...(path.tls === undefined ? [] : [row("tls", tlsWords(path.tls, atMs))]),
  ];
}

/** What TLS has agreed upon, and how long its certificates last. */
function tlsWords(tls: TlsSession, wallMs: number): string {
  const left = (atMs: number) => {
    const days = Math.floor(Math.abs(atMs - wallMs) / 86_400_000);
    return atMs < wallMs ? `expired ${days} days ago` : `expires in ${days} days`;
  };
  const ours = tls.clientCertificateExpiresAtMs;
  return `${tls.version}, ${tls.cipherSuite}, the server's certificate ` +
    left(tls.serverCertificateExpiresAtMs) +
    (ours === undefined ? "" : `, ours ${left(ours)}`);
}

/** What the kernel says about a connection. */
export function pathWords(path: NonNullable<SenderReport["path"]>): string {
  const window = path.sendWindowBytes === undefined
    ? ""
    : `, window ${formatBytes(path.sendWindowBytes)}`;
  return `Send-Q ${formatBytes(path.sendQueueBytes)} ` +
    `(${formatBytes(path.notSentBytes)} not sent yet), RTT ${path.rttMs.toFixed(1)}ms${window}, ` +
    `${formatCount(path.retransmittedSegments)} retransmitted`;
}

function formatTimes(count: number): string {
  return count === 1 ? "once" : `${formatCount(count)} times`;
}

function row(name: string, words: string): string {
  return `${name.padEnd(10)} ${words}`;
}

const BARS = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"] as const;

/** Values as they come, the oldest forgotten. */
export class History {
  readonly #maxValues: number;
  readonly #values: number[] = [];

  constructor(maxValues: number) {
    this.#maxValues = maxValues;
  }

  /** Takes in the next value; 0 or more. */
  add(value: number): void {
    this.#values.push(value);
    if (this.#values.length > this.#maxValues) this.#values.shift();
  }

  get highest(): number {
    return Math.max(0, ...this.#values);
  }

  /**
   * One bar a value, the oldest first. The highest has the tallest; only 0 has
   * the lowest, so that little is told from nothing.
   */
  bars(): string {
    const { highest } = this;
    return this.#values.map((value) =>
      BARS[value === 0 ? 0 : Math.max(1, Math.round(value / highest * (BARS.length - 1)))]
    ).join("");
  }
}
