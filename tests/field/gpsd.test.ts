/**
 * gpsd, which connects to its devices: what it says itself that it was given.
 */
import assert from "node:assert/strict";
import { Sender } from "../../src/sender/sender.ts";
import { leftOutWithout } from "../cli/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const SENTENCES = 300;

const missing = await leftOutWithout("gpsd", "-V");

/** A position at each second of the day, with its checksum. */
function sentence(second: number): string {
  const digits = (count: number) => `${Math.trunc(count)}`.padStart(2, "0");
  const time = `${digits(second / 3600)}${digits(second / 60 % 60)}${digits(second % 60)}`;
  const body = `GPRMC,${time}.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W`;
  const sum = [...body].reduce((all, letter) => all ^ letter.charCodeAt(0), 0);
  return `$${body}*${sum.toString(16).toUpperCase().padStart(2, "0")}\r\n`;
}

/** Connects once somebody listens there. */
async function connectTo(port: number): Promise<Deno.TcpConn> {
  let conn: Deno.TcpConn | undefined;
  await until("gpsd's own port", async () => {
    conn = await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => undefined);
    return conn !== undefined;
  });
  return conn ?? assert.fail();
}

Deno.test({
  name: `gpsd connects to us, and repeats each sentence that it was sent${missing}`,
  ignore: missing !== "",
  async fn() {
    using directory = new TempDir();
    const [port, clientPort] = [ScriptedServer.freePort(), ScriptedServer.freePort()];
    await using sender = await Sender.open(directory.queue, `listen://127.0.0.1:${port}`, {
      holdMs: 0,
    });
    await using gpsd = new Deno.Command("gpsd", {
      args: ["-N", "-n", "-S", `${clientPort}`, `tcp://127.0.0.1:${port}`],
      stdout: "null",
      stderr: "null",
    }).spawn();
    const client = await connectTo(clientPort);
    let heard = "";
    const hearing = (async () => {
      for await (const text of client.readable.pipeThrough(new TextDecoderStream())) heard += text;
    })().catch(() => {});
    const writer = client.writable.getWriter();
    await writer.write(
      new TextEncoder().encode('?WATCH={"enable":true,"raw":1,"nmea":true};\n'),
    );
    await until("the watch", () => heard.includes('"class":"WATCH"'));
    await until("gpsd's connection", () => sender.state === "connected");
    // By the first ones it finds out what it is connected to, and repeats none of them.
    let next = 0;
    while (!heard.includes("$GPRMC")) {
      await sender.enqueue(sentence(next++));
      await sender.drained();
    }
    const sent = Array.from({ length: SENTENCES }, (_, index) => sentence(next + index));
    await sender.enqueueMany(sent);
    await sender.drained();
    const last = sent.at(-1)?.trimEnd() ?? "";
    await until("the last sentence", () => heard.includes(last));
    const repeated = heard.split("\n").map((line) => line.trimEnd());
    assert.deepEqual(
      sent.map((line) => line.trimEnd()).filter((line) => !repeated.includes(line)),
      [],
    );
    await sender.close();
    gpsd.kill("SIGTERM");
    await hearing;
    await gpsd.status;
  },
});
