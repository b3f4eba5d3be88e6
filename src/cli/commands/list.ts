/** `sendq list`: the packets in a queue, or its dead letters. */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import type {
  InspectedDeadLetter,
  InspectedPacket,
  Inspector,
  InspectQuery,
} from "../../queue/inspect/inspection.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { parseCount, parseDuration } from "../arguments/values.ts";
import { EXIT_CODE_HELP, ExitCode } from "../terminal/exit_code.ts";
import { formatBytes, formatCount, formatDuration, printable } from "../terminal/figures.ts";
import { colorsWelcome, columns, Printer } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import {
  addRangeOptions,
  deadLetterFields,
  LOOK_PERMISSIONS,
  openForLooking,
  packetFields,
  POSTGRES_PERMISSIONS,
  previewOf,
  rangeOf,
  type RangeOptions,
} from "./queue_view.ts";

/** So much of what a server has said is shown; `sendq show --dead` has all of it. */
const MAX_WORDS = 60;

const HELP = `
The oldest come first. A packet is waiting, sent (it was on the wire, so that
the server may have it, and is not confirmed), or expired. Looking changes
nothing and holds nobody up, also while a sender runs.

Examples:
  sendq list -q outbox.db
  sendq list -q outbox.db --older-than 10m --preview
  sendq list -q outbox.db --dead --json --limit 0 | jq .reason

Permissions:
  deno run ${LOOK_PERMISSIONS} src/cli/main.ts list -q outbox.db
${POSTGRES_PERMISSIONS}

${EXIT_CODE_HELP}
`;

interface ListOptions extends RangeOptions {
  readonly queue: string;
  readonly olderThan?: number;
  readonly limit: number;
  readonly preview?: boolean;
  readonly json?: boolean;
}

export function listCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("list")
    .summary("list the packets in a queue, or its dead letters")
    .description("List the packets in a queue, or its dead letters.");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options, QUEUE_THERE);
  addRangeOptions(options);
  options
    .value("--older-than <time>", "stored (dead letters: died) longer ago", parseDuration)
    .value("-n, --limit <count>", "most of them; 0: all", parseCount, [50, "50"])
    .group("Output")
    .flag("-p, --preview", "show each one's first bytes")
    .flag("--json", "print an object for each, one a line");
  return command
    .addHelpText("after", HELP)
    .action(async (options: ListOptions) => finish(await list(options, io)));
}

async function list(options: ListOptions, io: Stdio): Promise<ExitCode> {
  const { queue: path, dead = false, olderThan, preview = false } = options;
  const range = rangeOf(options);
  using inspector = await openForLooking(path);
  const atMs = systemClock.wallMs();
  // Not more than fits into a line.
  const width = options.json || !io.stdout.isTerminal() ? 64 : Math.max(16, columns() - 56);
  const query = {
    ...range,
    ...(olderThan === undefined ? {} : { beforeMs: atMs - olderThan }),
    payloadBytes: preview ? width : 0,
  };
  if (dead) await printAll(inspector, query, options, deadTable(atMs), io);
  else await printAll(inspector, query, options, packetTable(atMs), io);
  return ExitCode.DONE;
}

interface Table<Item> {
  readonly name: readonly [one: string, several: string];
  readonly items: (inspector: Inspector, query: InspectQuery) => AsyncGenerator<Item>;
  readonly count: (inspector: Inspector, query: InspectQuery) => Promise<{ packets: number }>;
  readonly fields: (item: Item) => Record<string, unknown>;
  readonly head: readonly string[];
  readonly cells: (item: Item) => readonly string[];
}

interface Item {
  readonly id: number;
  readonly bytes: number;
  readonly payload: Uint8Array;
}

async function printAll<T extends Item>(
  inspector: Inspector,
  query: InspectQuery,
  { limit, json = false, preview = false }: ListOptions,
  table: Table<T>,
  io: Stdio,
): Promise<void> {
  const out = Printer.on(io);
  const text = (item: T) => previewOf(item.payload, item.payload.length < item.bytes);
  let shown = 0, last = 0;
  let full = false;
  for await (const item of table.items(inspector, query)) {
    if (limit > 0 && shown === limit) {
      full = true;
      break;
    }
    if (shown++ === 0 && !json) await out.line(paintedHead(table.head, preview, io));
    last = item.id;
    const line = json
      ? JSON.stringify({ ...table.fields(item), ...(preview ? { preview: text(item) } : {}) })
      : rowOf([...table.cells(item), ...(preview ? [text(item)] : [])]);
    if (!await out.line(line)) return;
  }
  if (!json) {
    const [one, several] = table.name;
    if (shown === 0) await out.line(`no ${several}`);
    if (full) {
      const { packets } = await table.count(inspector, { ...query, fromId: last + 1 });
      const name = packets === 1 ? one : several;
      await out.line(`and ${formatCount(packets)} more ${name}; --limit 0 lists all`);
    }
  }
  await out.flush();
}

function packetTable(atMs: number): Table<InspectedPacket> {
  return {
    name: ["packet", "packets"],
    items: (inspector, query) => inspector.packets(query),
    count: (inspector, query) => inspector.countPackets(query),
    fields: packetFields,
    head: ["id", "age", "size", "state"],
    cells: ({ id, enqueuedAtMs, expiresAtMs, bytes, state }) => {
      const left = state === "expired" || expiresAtMs === Infinity
        ? ""
        : `, expires in ${formatDuration(Math.max(0, expiresAtMs - atMs))}`;
      return [String(id), ageOf(enqueuedAtMs, atMs), formatBytes(bytes), state + left];
    },
  };
}

function deadTable(atMs: number): Table<InspectedDeadLetter> {
  return {
    name: ["dead letter", "dead letters"],
    items: (inspector, query) => inspector.deadLetters(query),
    count: (inspector, query) => inspector.countDeadLetters(query),
    fields: deadLetterFields,
    head: ["id", "died", "size", "reason"],
    cells: ({ id, diedAtMs, bytes, reason, sent, attempts, words }) => {
      const tried = attempts === 0 ? "" : `, ${attempts}x`;
      return [
        String(id),
        `${ageOf(diedAtMs, atMs)} ago`,
        formatBytes(bytes),
        `${reason}${tried}${sent ? ", was sent" : ""}${
          words === undefined ? "" : `: ${cut(words)}`
        }`,
      ];
    },
  };
}

/** What a server has said may be long, and is somebody else's. */
function cut(words: string): string {
  const line = printable(words);
  return line.length > MAX_WORDS ? `${line.slice(0, MAX_WORDS)}…` : line;
}

function ageOf(enqueuedAtMs: number, atMs: number): string {
  return formatDuration(Math.max(0, atMs - enqueuedAtMs));
}

function paintedHead(head: readonly string[], preview: boolean, io: Stdio): string {
  const line = rowOf([...head, ...(preview ? ["first bytes"] : [])]);
  return colorsWelcome(io.stdout) ? `\x1b[90m${line}\x1b[0m` : line;
}

/** Numbers to the right, words to the left. */
function rowOf([id = "", age = "", size = "", state = "", ...rest]: readonly string[]): string {
  const cells = [id.padStart(10), age.padStart(10), size.padStart(10)];
  return [...cells, rest.length > 0 ? state.padEnd(18) : state, ...rest].join("  ");
}
