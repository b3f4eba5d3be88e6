/** `sendq show`: one packet of a queue. */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import type {
  InspectedDeadLetter,
  InspectedPacket,
  Inspector,
} from "../../queue/inspect/inspection.ts";
import type { DeathReason } from "../../queue/store/types.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { parseId } from "../arguments/values.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatCount, formatDuration, printable } from "../terminal/figures.ts";
import { printBytes, Printer } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import {
  deadLetterFields,
  hexDump,
  LOOK_PERMISSIONS,
  openForLooking,
  packetFields,
  POSTGRES_PERMISSIONS,
  printWithPayload,
  timeOf,
} from "./queue_view.ts";

const HELP = `
Examples:
  sendq show 12 -q outbox.db
  sendq show 12 -q outbox.db --raw > packet.bin
  sendq show 7 -q outbox.db --dead

Permissions:
  deno run ${LOOK_PERMISSIONS} src/cli/main.ts show 12 -q outbox.db
${POSTGRES_PERMISSIONS}

${EXIT_CODE_HELP}
`;

interface ShowOptions {
  readonly queue: string;
  readonly dead?: boolean;
  readonly json?: boolean;
  readonly raw?: boolean;
}

export function showCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("show")
    .summary("show one packet, its bytes as hex and text")
    .description("Show one packet of a queue, its bytes in hexadecimal and as text.")
    .argument("<id>", "the packet's id, as list shows it", parseId);
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options, QUEUE_THERE);
  options
    .flag("--dead", "a dead letter: a packet that expired, was given up or refused, or is damaged")
    .group("Output")
    .flag("--json", "print an object, the payload as base64")
    .flag("--raw", "print the payload's bytes as they are, and nothing else");
  return command
    .addHelpText("after", HELP)
    .action(async (id: number, options: ShowOptions) => finish(await show(id, options, io)));
}

async function show(id: number, options: ShowOptions, io: Stdio): Promise<ExitCode> {
  const { queue: path, dead = false, json = false, raw = false } = options;
  if (json && raw) throw new UsageError("--json and --raw cannot be combined");
  using inspector = await openForLooking(path);
  const found = dead ? await inspector.deadLetter(id) : await inspector.packet(id);
  if (found === undefined) throw new CommandError(await whereItIs(inspector, id, dead));
  const { payload } = found;
  if (raw) {
    await printBytes(io, payload);
  } else if (json) {
    const fields = "state" in found ? packetFields(found) : deadLetterFields(found);
    const out = Printer.on(io);
    await printWithPayload(out, fields, payload);
    await out.flush();
  } else {
    const atMs = systemClock.wallMs();
    const out = Printer.on(io);
    const rows = "state" in found ? packetRows(found, atMs) : deadLetterRows(found, atMs);
    for (const [name, words] of rows) await out.line(`${name.padEnd(10)} ${words}`);
    await out.line("");
    for (const line of hexDump(payload)) if (!await out.line(line)) break;
    await out.flush();
  }
  return ExitCode.DONE;
}

async function whereItIs(inspector: Inspector, id: number, dead: boolean): Promise<string> {
  if (dead) {
    return await inspector.packet(id) === undefined
      ? `there is no dead letter ${id}; sendq list --dead shows them all`
      : `packet ${id} is no dead letter, it is in the queue: leave out --dead`;
  }
  if (await inspector.deadLetter(id) !== undefined) {
    return `packet ${id} is a dead letter: add --dead`;
  }
  const { lastId } = await inspector.counts();
  if (id <= lastId) return `packet ${id} is not in the queue any more: delivered, or removed`;
  return lastId === 0
    ? `there is no packet ${id}: there never was one in this queue`
    : `there is no packet ${id} yet: the last one stored is ${lastId}`;
}

const STATE_WORDS: { readonly [state in InspectedPacket["state"]]: string } = {
  waiting: "waiting to be sent",
  sent: "sent: the server may have it; not confirmed",
  expired: "expired: it is not sent, a sender makes it a dead letter",
};

function packetRows(packet: InspectedPacket, atMs: number): [string, string][] {
  const { id, enqueuedAtMs, expiresAtMs, state, bytes } = packet;
  const expires: [string, string][] = expiresAtMs === Infinity
    ? []
    : [["expires", whenWords(expiresAtMs, atMs)]];
  return [
    ["packet", String(id)],
    ["stored", agoWords(enqueuedAtMs, atMs)],
    ...expires,
    ["state", STATE_WORDS[state]],
    ["size", sizeWords(bytes)],
  ];
}

const DEATH_WORDS: { readonly [reason in DeathReason]: string } = {
  expired: "expired",
  "gave-up": "given up",
  damaged: "damaged: the bytes are not those that were stored",
  refused: "refused by the server",
};

function deadLetterRows(letter: InspectedDeadLetter, atMs: number): [string, string][] {
  const { id, enqueuedAtMs, diedAtMs, reason, sent, attempts, words, bytes } = letter;
  const tried = attempts === 0 ? "" : `, tried in ${formatCount(attempts)} connections`;
  return [
    ["letter", String(id)],
    ["stored", agoWords(enqueuedAtMs, atMs)],
    ["died", agoWords(diedAtMs, atMs)],
    ["reason", `${DEATH_WORDS[reason]}${tried}`],
    ...words === undefined ? [] : [["words", printable(words)] as [string, string]],
    ["sent", sent ? "yes: the server may have it" : "no"],
    ["size", sizeWords(bytes)],
  ];
}

function agoWords(ms: number, atMs: number): string {
  return `${timeOf(ms)}, ${formatDuration(Math.max(0, atMs - ms))} ago`;
}

function whenWords(ms: number, atMs: number): string {
  return ms <= atMs ? agoWords(ms, atMs) : `${timeOf(ms)}, in ${formatDuration(ms - atMs)}`;
}

function sizeWords(bytes: number): string {
  return bytes < 1024 ? formatBytes(bytes) : `${formatBytes(bytes)} (${formatCount(bytes)} bytes)`;
}
