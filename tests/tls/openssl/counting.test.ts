/**
 * What a TlsWire says was read, against a server of which it is known what its program has
 * read: never too much, and in the end everything.
 */

import assert from "node:assert/strict";
import type { Wire } from "../../../src/base/ports.ts";
import { testUnless } from "../../kernel/helpers.ts";
import { ScriptedServer } from "../../support/scripted_server.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { until } from "../../support/until.ts";
import { dialReading, noLibssl } from "../helpers.ts";
import { isListening, lacks } from "../openssl.ts";
import { noPython, PacedServer } from "./paced_server.ts";

/** How much of what was written the wire says that the server's program has read. */
function saidRead(wire: Wire): number {
  return (wire.sample().readBytes ?? NaN) - 1;
}

/** The same numbers at each run. */
function* numbers(): Generator<number, never> {
  for (let state = 1;; state = (state * 48_271) % 2_147_483_647) yield state;
}

/** What stands between us and the server. */
interface Between {
  readonly name: string;
  readonly obstacle: string | undefined;
  /** A program that listens at the first port and connects to the second. */
  readonly command?: (dir: TempDir, port: number, serverPort: number) => [string, string[]];
}

const BETWEEN: readonly Between[] = [
  { name: "nothing in between", obstacle: undefined },
  {
    name: "socat in between",
    obstacle: lacks("socat", "-V"),
    command: (_, port, serverPort) => [
      "socat",
      [`TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork`, `TCP:127.0.0.1:${serverPort}`],
    ],
  },
  {
    name: "haproxy in between",
    obstacle: lacks("haproxy", "-v"),
    command(dir, port, serverPort) {
      const config = dir.file("haproxy.cfg");
      Deno.writeTextFileSync(
        config,
        `defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen between
  bind 127.0.0.1:${port}
  server one 127.0.0.1:${serverPort}
`,
      );
      return ["haproxy", ["-db", "-q", "-f", config]];
    },
  },
];

for (const { name, obstacle, command } of BETWEEN) {
  testUnless(
    noLibssl() ?? noPython() ?? obstacle,
    `3000 samples, none says that more was read than was: ${name}`,
    async () => {
      using dir = new TempDir();
      await using server = await PacedServer.start(dir.file("read"));
      let port = server.port;
      let proxy: Deno.ChildProcess | undefined;
      if (command !== undefined) {
        port = ScriptedServer.freePort();
        const [program, args] = command(dir, port, server.port);
        proxy = new Deno.Command(program, { args, stdout: "null", stderr: "null" }).spawn();
        await until(`${program} listens`, () => isListening(port));
      }
      try {
        const wire = await server.accepting(dialReading(port));
        const random = numbers();
        let writtenBytes = 0, samples = 0, exact = 0, progress = 0;
        /** What the server's program has read, at least and at most. */
        let readBytes = 0;
        const check = () => {
          const claimed = saidRead(wire);
          assert.ok(claimed <= readBytes, `${claimed} said, ${readBytes} read`);
          assert.ok(claimed >= 0);
          samples++;
          if (claimed === readBytes) exact++;
          return claimed;
        };
        for (let lastClaimed = 0; samples < 3000;) {
          // Not more than what every buffer on the way takes at once.
          if (writtenBytes - readBytes < 200_000) {
            const chunk = new Uint8Array(1 + random.next().value % 50_000);
            // Counted first, as it is counted where it is believed.
            writtenBytes += chunk.length;
            for (let at = 0; at < chunk.length;) {
              at += await wire.write(chunk.subarray(at));
              assert.ok(saidRead(wire) <= readBytes);
              samples++;
            }
          }
          check();
          // While it reads, nothing is sampled: only afterwards is it known how much it was.
          readBytes = await server.read(random.next().value % 60_000);
          if (random.next().value % 50 === 0) await server.write();
          const claimed = check();
          if (claimed > lastClaimed) progress++;
          lastClaimed = claimed;
        }
        assert.ok(progress > 100, `only ${progress} times was anything said to be read`);
        await until("everything is read, and said to be", async () => {
          readBytes = await server.read(1_000_000);
          return check() === writtenBytes;
        });
        assert.ok(exact > 0);
        wire.abort();
        assert.equal(Deno.statSync(dir.file("read")).size, writtenBytes);
      } finally {
        proxy?.kill("SIGKILL");
        await proxy?.status;
      }
    },
  );
}

testUnless(
  noLibssl() ?? noPython(),
  "what a killed server has not read is never counted, also when the connection is dead",
  async () => {
    using dir = new TempDir();
    await using server = await PacedServer.start(dir.file("read"));
    const wire = await server.accepting(dialReading(server.port));
    const reading = wire.read(new Uint8Array(10));
    let writtenBytes = 0;
    const chunk = new Uint8Array(10_000);
    for (let i = 0; i < 12; i++) {
      for (let at = 0; at < chunk.length;) {
        const taken = await wire.write(chunk.subarray(at));
        at += taken;
        writtenBytes += taken;
      }
    }
    let readBytes = await server.read(70_000);
    await until("the kernel has acknowledged all", () => wire.sample().sendQueueBytes === 0);
    await until("the first ping is answered", async () => {
      readBytes = await server.read(1);
      return saidRead(wire) > 0;
    });
    await server.kill();
    await Promise.allSettled([reading]);
    await until("it is dead", () => wire.sample().hangup);
    assert.equal(wire.sample().bytesAcked - 1, writtenBytes);
    assert.ok(saidRead(wire) > 0);
    assert.ok(saidRead(wire) <= readBytes);
    assert.ok(readBytes < writtenBytes);
    wire.abort();
  },
);
