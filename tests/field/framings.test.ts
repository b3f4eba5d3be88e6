/**
 * What nobody here has written, through a relay: two clients at once with
 * messages of 40 KB, of which none may be lost and none mixed; and servers that
 * read the framings that we write.
 */
import assert from "node:assert/strict";
import type { Framing } from "../../src/framing/framing.ts";
import { framePacket } from "../../src/framing/frame_packet.ts";
import { Relay } from "../../src/relay/relay.ts";
import { Sender } from "../../src/sender/sender.ts";
import { leftOutWithout } from "../cli/helpers.ts";
import { bytes } from "../support/bytes.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const MESSAGES = 30;
const BODY_BYTES = 40_000;
const CLIENTS = ["a", "b"] as const;

const NPM_CLIENT = new URL("npm_client.ts", import.meta.url).pathname;

/** A client program, and how the relay has to read it. */
interface Case {
  readonly name: string;
  /** Why it is left out; empty where it is there. */
  readonly missing: string;
  readonly input: Framing;
  readonly output?: Framing;
  /** Starts it: a message for each line of the file. It ends by itself unless `stays`. */
  start(port: number, file: string, dir: TempDir): Deno.ChildProcess;
  readonly stays?: true;
  /** Makes a connection for each message: among connections there is no order. */
  readonly reconnects?: true;
}

function spawn(program: string, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(program, { args, stdout: "null", stderr: "inherit" }).spawn();
}

const withoutLogger = await leftOutWithout("logger", "--version");
const withoutNpm = (await leftOutWithout(Deno.execPath(), "cache", NPM_CLIENT)) &&
  " (left out: its packages cannot be fetched from npm)";
const withoutRsyslog = await leftOutWithout("rsyslogd", "-v");

function logger(name: string, input: Framing, ...options: string[]): Case {
  return {
    name,
    missing: withoutLogger,
    input,
    start: (port, file) =>
      spawn(
        ...["logger", "--tcp", "--server", "127.0.0.1", "--port", `${port}`] as const,
        ...["--size", "65536", "--file", file, ...options],
      ),
  };
}

/** rsyslog's forwarder, reading a file. */
function omfwd(name: string, tcpFraming: string, input: Framing): Case {
  return {
    name,
    missing: withoutRsyslog,
    input,
    stays: true,
    start(port, file, dir) {
      const work = Deno.makeTempDirSync({ dir: dir.path });
      return rsyslog(
        work,
        `module(load="imfile")
input(type="imfile" file="${file}" tag="field" ruleset="forward")
ruleset(name="forward") {
  action(type="omfwd" target="127.0.0.1" port="${port}" protocol="tcp"
    TCP_Framing="${tcpFraming}" template="RSYSLOG_SyslogProtocol23Format")
}`,
      );
    },
  };
}

function rsyslog(work: string, config: string): Deno.ChildProcess {
  Deno.writeTextFileSync(
    `${work}/rsyslog.conf`,
    `global(workDirectory="${work}" maxMessageSize="64k")\n${config}\n`,
  );
  return spawn("rsyslogd", "-n", "-iNONE", "-f", `${work}/rsyslog.conf`);
}

function npm(library: string, input: Framing): Case {
  return {
    name: library,
    missing: withoutNpm,
    input,
    start: (port, file) =>
      spawn(
        ...[Deno.execPath(), "run", "-A", "--no-check", NPM_CLIENT, library] as const,
        ...[`${port}`, file],
      ),
  };
}

const CASES: readonly Case[] = [
  logger("logger --octet-count", "syslog", "--octet-count"),
  logger("logger", "syslog"),
  { ...logger("logger, lines as they came", "lines"), output: "lines" },
  omfwd("omfwd, octet-counted", "octet-counted", "syslog"),
  omfwd("omfwd, newline", "traditional", "syslog"),
  { ...npm("gelf-pro", "gelf"), reconnects: true },
  npm("pino-socket", "lines"),
  npm("winston-syslog", "syslog"),
];

/** The packets of what a server has read, by the framing's own rules. */
function packetsIn(wire: string, framing: Framing): string[] {
  if (framing !== "syslog") return wire.split(framing === "gelf" ? "\0" : "\n").slice(0, -1);
  const packets: string[] = [];
  for (let at = 0; at < wire.length;) {
    const [head, digits] = /^(\d+) /.exec(wire.slice(at, at + 12)) ?? [];
    if (head === undefined) return assert.fail(`no octet count: ${wire.slice(at, at + 40)}`);
    packets.push(wire.slice(at + head.length, at + head.length + Number(digits)));
    at += head.length + Number(digits);
  }
  return packets;
}

for (const { name, missing, input, output = input, start, stays, reconnects } of CASES) {
  Deno.test({
    name: `field: two of ${name} at once lose nothing and are never mixed${missing}`,
    ignore: missing !== "",
    async fn() {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using sender = await Sender.open({
        ...{ queue: dir.queue, queueOptions: { overflow: "wait" } },
        ...{ remote: server.remote, holdMs: 0 },
      });
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const log: string[] = [];
      const note = (words: string) => void log.push(words);
      await using relay = new Relay({
        ...{ sender, listeners: [listener], input, output },
        logger: { debug() {}, info: note, warn: note, error: note },
      });
      const children = CLIENTS.map((client) => {
        const file = `${dir.path}/${client}.txt`;
        const lines = Array.from(
          { length: MESSAGES },
          (_, i) => `${client}:${i}:${client.repeat(BODY_BYTES)}:end\n`,
        );
        Deno.writeTextFileSync(file, lines.join(""));
        return start(listener.addr.port, file, dir);
      });
      if (!stays) {
        const codes = await Promise.all(children.map(async (child) => (await child.status).code));
        assert.deepEqual(codes, [0, 0]);
      }
      const expected = CLIENTS.length * MESSAGES;
      await until(
        `${expected} packets`,
        () => relay.stats().storedPackets >= expected || log.length > 0,
      );
      assert.deepEqual(log, []);
      if (stays) {
        children.forEach((child) => child.kill("SIGKILL"));
        await Promise.all(children.map((child) => child.status));
      }
      await relay.stop();
      await sender.close({ deliverTimeoutMs: Infinity });
      await until("the server has read it to the end", () => server.connections === 0);
      const packets = packetsIn(server.text, output);
      const seen = packets.map((packet) => {
        const [whole, client, i] = /([ab]):(\d+):((?:a{40000})|(?:b{40000})):end/.exec(packet) ??
          [];
        assert.ok(whole, `mixed or torn: ${packet.slice(0, 200)}`);
        assert.ok(packet.length < BODY_BYTES + 500, `several in one: ${packet.length} bytes`);
        return `${client}${i}`;
      });
      for (const client of CLIENTS) {
        const sent = Array.from({ length: MESSAGES }, (_, i) => `${client}${i}`);
        const came = seen.filter((one) => one.startsWith(client));
        if (reconnects) assert.deepEqual(came.toSorted(), sent.toSorted());
        else assert.deepEqual(came, sent);
      }
      assert.equal(packets.length, expected);
    },
  });
}

Deno.test({
  name: `field: rsyslog reads the octet counts that we write, newlines inside${withoutRsyslog}`,
  ignore: withoutRsyslog !== "",
  async fn() {
    using dir = new TempDir();
    const port = ScriptedServer.freePort();
    const child = rsyslog(
      dir.path,
      `module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="${port}")
template(name="message" type="string" string="%msg%\\n")
action(type="omfile" file="${dir.path}/received.log" template="message")`,
    );
    try {
      await using sender = await Sender.open({
        queue: dir.queue,
        remote: `tcp://127.0.0.1:${port}`,
      });
      const texts = Array.from({ length: 600 }, (_, i) => `message ${i}\nand ${i}`);
      const packets = texts.map((text) =>
        framePacket(bytes(`<13>1 2026-11-26T20:00:00Z host app - - - ${text}`), "syslog")
      );
      await sender.enqueueMany(packets);
      await sender.drained();
      const received = () => {
        try {
          return Deno.readTextFileSync(`${dir.path}/received.log`);
        } catch {
          return ""; // Not made yet.
        }
      };
      await until("600 messages", () => received().split("\n").length > 600);
      // It writes a newline that stands inside a message as #012.
      const lines = new Set(received().trimEnd().split("\n").map((line) => line.trim()));
      assert.deepEqual([...lines], texts.map((text) => text.replace("\n", "#012")));
    } finally {
      child.kill("SIGKILL");
      await child.status;
    }
  },
});
