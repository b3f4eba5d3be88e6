/**
 * Programs that only know how to connect and send, through a relay: two at once
 * with messages of 40 KB, of which none may be lost and none mixed.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { connectionsOf } from "../lab/connections_of.ts";
import type { Framing } from "../src/framing/framing.ts";
import { Relay } from "../src/relay/relay.ts";
import { Sender } from "../src/sender/sender.ts";
import type { ClientRow, Needs, ServerCase } from "./case.ts";
import { remember } from "./running.ts";

const MESSAGES = 30;
const BODY_BYTES = 40_000;
const CLIENTS = ["a", "b"] as const;
/** Generous: it only ends a run that has failed. */
const STORED_WITHIN_MS = 60_000;
const POLL_MS = 10;

const NPM_CLIENT = new URL("npm_client.ts", import.meta.url).pathname;

/** A client program, and how the relay has to read it. */
export interface ClientCase {
  readonly name: string;
  readonly needs: Needs;
  readonly version: ServerCase["version"];
  readonly input: Framing;
  readonly output?: Framing;
  /** Starts it: a message for each line of the file. It ends by itself unless `stays`. */
  start(port: number, file: string, work: string): Deno.ChildProcess;
  readonly stays?: true;
  /** Makes a connection for each message: among connections there is no order. */
  readonly reconnects?: true;
}

function spawn(program: string, ...args: string[]): Deno.ChildProcess {
  const options = { args, stdin: "null", stdout: "null", stderr: "inherit" } as const;
  const child = new Deno.Command(program, options).spawn();
  remember(child, () => child.kill("SIGKILL"));
  return child;
}

function logger(name: string, input: Framing, ...options: string[]): ClientCase {
  return {
    name,
    needs: { programs: ["logger"] },
    version: ["logger", "--version"],
    input,
    start: (port, file) =>
      spawn(
        ...["logger", "--tcp", "--server", "127.0.0.1", "--port", `${port}`] as const,
        ...["--size", "65536", "--file", file, ...options],
      ),
  };
}

/** rsyslog's forwarder, reading a file. */
function omfwd(name: string, tcpFraming: string): ClientCase {
  return {
    name,
    needs: { debian: ["rsyslog"] },
    version: ["rsyslogd", "-v"],
    input: "syslog",
    stays: true,
    start(port, file, work) {
      const folder = Deno.makeTempDirSync({ dir: work });
      Deno.writeTextFileSync(
        `${folder}/rsyslog.conf`,
        `global(workDirectory="${folder}" maxMessageSize="64k")
module(load="imfile")
input(type="imfile" file="${file}" tag="field" ruleset="forward")
ruleset(name="forward") {
  action(type="omfwd" target="127.0.0.1" port="${port}" protocol="tcp"
    TCP_Framing="${tcpFraming}" template="RSYSLOG_SyslogProtocol23Format")
}
`,
      );
      return spawn("rsyslogd", "-n", "-iNONE", "-f", `${folder}/rsyslog.conf`);
    },
  };
}

function npm(library: string, input: Framing): ClientCase {
  return {
    name: library,
    needs: {},
    version: { npm: library },
    input,
    start: (port, file) =>
      spawn(
        ...[Deno.execPath(), "run", "-A", "--no-check", NPM_CLIENT, library] as const,
        ...[`${port}`, file],
      ),
  };
}

/** Every client, in the order of the table. */
export const CLIENT_CASES: readonly ClientCase[] = [
  logger("logger --octet-count", "syslog", "--octet-count"),
  logger("logger", "syslog"),
  { ...logger("logger, lines as they came", "lines"), output: "lines" },
  omfwd("omfwd, octet-counted", "octet-counted"),
  omfwd("omfwd, newline", "traditional"),
  { ...npm("gelf-pro", "gelf"), reconnects: true },
  npm("pino-socket", "lines"),
  npm("winston-syslog", "syslog"),
];

/**
 * Runs two of them at once.
 *
 * @param work A directory for their files.
 */
export async function runClients(
  { input, output = input, start, stays, reconnects }: ClientCase,
  work: string,
): Promise<Omit<ClientRow, "case" | "version">> {
  await using server = new Reader();
  await using sender = await Sender.open({
    ...{ queue: `${work}/relay.db`, queueOptions: { overflow: "wait" } },
    ...{ remote: server.remote, holdMs: 0 },
  });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const said: string[] = [];
  const note = (words: string) => void said.push(words);
  await using relay = new Relay({
    ...{ sender, listeners: [listener], input, output },
    logger: { debug() {}, info: note, warn: note, error: note },
  });
  const children = CLIENTS.map((client) => {
    const file = `${work}/${client}.txt`;
    const lines = Array.from(
      { length: MESSAGES },
      (_, i) => `${client}:${i}:${client.repeat(BODY_BYTES)}:end\n`,
    );
    Deno.writeTextFileSync(file, lines.join(""));
    return start(listener.addr.port, file, work);
  });
  const failures: string[] = [];
  if (!stays) {
    const codes = await Promise.all(children.map(async (child) => (await child.status).code));
    if (codes.some((code) => code !== 0)) failures.push(`the clients ended with ${codes}`);
  }
  const expected = CLIENTS.length * MESSAGES;
  const deadlineMs = performance.now() + STORED_WITHIN_MS;
  while (relay.stats().storedPackets < expected && performance.now() < deadlineMs) {
    if (said.length > 0) break;
    await delay(POLL_MS);
  }
  if (stays) children.forEach((child) => child.kill("SIGKILL"));
  await Promise.all(children.map((child) => child.status));
  await relay.stop();
  await sender.close({ deliverTimeoutMs: STORED_WITHIN_MS });
  failures.push(...said);
  return judge(await server.text(), output, reconnects ?? false, failures);
}

function judge(wire: string, framing: Framing, reconnects: boolean, failures: string[]) {
  const seen = new Map<string, number>();
  let duplicated = 0, outOfOrder = 0;
  for (const packet of packetsIn(wire, framing, failures)) {
    const [whole, client = "", digits] =
      /([ab]):(\d+):((?:a{40000})|(?:b{40000})):end/.exec(packet) ?? [];
    if (whole === undefined) failures.push(`mixed or torn: ${packet.slice(0, 200)}`);
    else if (packet.length > BODY_BYTES + 500) failures.push(`several in one: ${packet.length}`);
    else if (seen.has(client + digits)) duplicated++;
    else {
      const before = Math.max(-1, ...[...seen].flatMap(([key, i]) => key[0] === client ? [i] : []));
      seen.set(client + digits, Number(digits));
      if (Number(digits) < before) outOfOrder++;
    }
  }
  const sent = CLIENTS.length * MESSAGES;
  const lost = sent - seen.size;
  if (lost > 0) failures.push(`lost ${lost}`);
  if (duplicated > 0) failures.push(`${duplicated} duplicates on one whole connection`);
  if (outOfOrder > 0 && !reconnects) failures.push(`${outOfOrder} times out of order`);
  const notes = reconnects ? ["a connection for each message: no order among them"] : [];
  return { sent, lost, duplicated, outOfOrder, notes, failures };
}

/** The packets of what a server has read, by the framing's own rules. */
function packetsIn(wire: string, framing: Framing, failures: string[]): string[] {
  if (framing !== "syslog") return wire.split(framing === "gelf" ? "\0" : "\n").slice(0, -1);
  const packets: string[] = [];
  for (let at = 0; at < wire.length;) {
    const [head, digits] = /^(\d+) /.exec(wire.slice(at, at + 12)) ?? [];
    if (head === undefined) {
      failures.push(`no octet count: ${wire.slice(at, at + 40)}`);
      break;
    }
    packets.push(wire.slice(at + head.length, at + head.length + Number(digits)));
    at += head.length + Number(digits);
  }
  return packets;
}

/** A server that reads everything. */
class Reader implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #reading: Promise<string>;

  constructor() {
    this.#reading = this.#read();
  }

  get remote(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  /** All that came, once every connection has ended. No further one is accepted. */
  async text(): Promise<string> {
    this[Symbol.asyncDispose]();
    return await this.#reading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#listener.close();
    } catch {
      // It was closed before.
    }
    await Promise.resolve();
  }

  async #read(): Promise<string> {
    const texts: Promise<string>[] = [];
    for await (const connection of connectionsOf(this.#listener)) {
      texts.push(new Response(connection.readable).text());
    }
    return (await Promise.all(texts)).join("");
  }
}
