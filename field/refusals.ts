/**
 * Servers that do not want the session, and the words in which an operator is told.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { QueueInspector } from "../src/queue/inspect/inspector.ts";
import type { Place, RefusalRow, ServerCase } from "./case.ts";
import { smppBind, text } from "./packets.ts";
import { inFolder } from "./running.ts";
import { SenderProcess } from "./sender_process.ts";
import { npmStart, REDIS, SERVERS } from "./servers.ts";
import { freePort, ServerProcess } from "./server_process.ts";

const PACKETS = 3;
/** Generous: it only ends a run that has failed. */
const SAID_WITHIN_MS = 60_000;
const POLL_MS = 50;

/** A server, and how it is spoken to. */
export interface Refusal extends Pick<ServerCase, "name" | "needs" | "start" | "sending"> {
  readonly packet: ServerCase["packet"];
  /** What has to be among the words. */
  readonly words: RegExp;
}

function npmCase(library: string): ServerCase {
  const found = SERVERS.find(({ name }) => name === library);
  if (found === undefined) throw new TypeError(`there is no case ${library}`);
  return found;
}

const SMPP = npmCase("smpp");
const SMTP = npmCase("smtp-server");
const TELTONIKA = npmCase("complete-teltonika-parser");

/** Every refusal, in the order of the table. */
export const REFUSALS: readonly Refusal[] = [
  {
    ...REDIS,
    name: "redis, wrong password",
    sending: { ...REDIS.sending, files: { "login.txt": text("AUTH wrong\r\n") } },
    words: /the server said "-WRONGPASS [^"]+"/,
  },
  {
    ...SMPP,
    name: "smpp, wrong password",
    sending: {
      ...SMPP.sending,
      files: { "bind.pdu": smppBind("field", "wrong") },
    },
    words: /the server said ".*\\x80\\x00\\x00\\t\\x00\\x00\\x00\\r/,
  },
  {
    ...TELTONIKA,
    name: "teltonika, an IMEI too short",
    // The server waits for the rest of it, and gets the login of nobody.
    sending: {
      flags: [
        ...["--input", "length:4,header=00000000,adjust=4"],
        ...["--session-send", "\\x00\\x0e356307042441013", "--session-expect", "\\x01"],
      ],
    },
    words: /the server said "\\x00"/,
  },
  {
    ...SMTP,
    name: "a greeting that says no",
    needs: { programs: ["node"] },
    start: (place) => npmStart("busy", place),
    words: /the server said "554 no service here/,
  },
  {
    ...REDIS,
    name: "an answer that is cut short",
    needs: { programs: ["node"] },
    start: (place) => npmStart("half", place),
    sending: {
      flags: [
        ...["--session-send", "AUTH secret\\r\\n", "--session-expect", "+OK\\r\\n"],
        ...["--session-timeout", "2s"],
      ],
    },
    words: /the server said "\+O"/,
  },
];

/** Waits for the words, and looks whether every packet is kept. */
export async function runRefusal(refusal: Refusal, scratch: string): Promise<RefusalRow> {
  // npm_server.mjs runs there, also where nothing of npm was needed.
  await Deno.mkdir(`${scratch}/npm`, { recursive: true });
  return await inFolder(
    scratch,
    (work) => run(refusal, { port: freePort(), work, output: `${work}/output`, scratch }),
  );
}

async function run(refusal: Refusal, place: Place): Promise<RefusalRow> {
  await using server = new ServerProcess((place) => refusal.start(place), place);
  await server.start();
  await using sender = new SenderProcess(refusal, place, ["--deliver-timeout", "100ms"]);
  for (let number = 0; number < PACKETS; number++) await sender.write(refusal.packet(number));
  const said = () => sender.events.find(({ message }) => message.includes("session: "))?.message;
  const deadlineMs = performance.now() + SAID_WITHIN_MS;
  while (said() === undefined && performance.now() < deadlineMs) await delay(POLL_MS);
  // Stopped as an operator would: what nobody has taken is kept.
  sender.signal("SIGTERM");
  const code = await sender.ended(SAID_WITHIN_MS);
  const words = said() ?? `nothing; its last words: ${sender.events.at(-1)?.message}`;
  using inspector = await QueueInspector.open(sender.queue);
  const { packets, deadPackets } = await inspector.counts();
  const failures: string[] = [];
  if (!refusal.words.test(words)) failures.push(`${refusal.words} is not among the words`);
  if (code !== 75) failures.push(`send ended with ${code}`);
  if (packets !== PACKETS) failures.push(`${packets} of ${PACKETS} packets are kept`);
  if (deadPackets !== 0) failures.push(`${deadPackets} dead letters`);
  return { case: refusal.name, words, failures };
}
