import assert from "node:assert/strict";
import { spawnHere } from "../../lab/child.ts";
import { compare } from "../../lab/compare.ts";
import { readRecord } from "../../lab/record.ts";
import { type RecorderOptions, RecorderProcess } from "../../lab/recorder_process.ts";
import { bytes } from "../support/bytes.ts";
import { Pinger } from "../support/pinger_process.ts";
import { until, within } from "../support/until.ts";

/** Runs `body` with a recorder on loopback and the path of its record. */
async function withRecorder(
  options: Omit<RecorderOptions, "record">,
  body: (server: RecorderProcess, record: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const record = `${folder}/record`;
    await using server = await RecorderProcess.start({ ...options, record });
    await body(server, record);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function connect(server: RecorderProcess): Promise<Deno.TcpConn> {
  return await Deno.connect({ port: server.port, hostname: "127.0.0.1" });
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

async function writeLines(connection: Deno.Conn, from: number, to: number): Promise<void> {
  await writeAll(connection, bytes(lines(from, to).join("")));
}

function lines(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, i) => `packet ${from + i}\n`);
}

/** What the client sees of the connection's end. */
async function ending(connection: Deno.Conn): Promise<string> {
  try {
    const n = await connection.read(new Uint8Array(16));
    return n === null ? "fin" : "data";
  } catch (error) {
    return error instanceof Deno.errors.ConnectionReset ? "reset" : String(error);
  }
}

Deno.test("recorder: everything read is on record, by connection", async () => {
  await withRecorder({}, async (server, record) => {
    using first = await connect(server);
    await writeLines(first, 0, 100);
    await until("100 packets", () => server.reader.update().packetCount === 100);
    using second = await connect(server);
    await writeLines(second, 50, 200);
    await writeAll(second, bytes("half a pack"));
    await second.closeWrite();
    await until("fin", () => server.reader.update().connections[1]?.end === "fin");
    const found = compare(lines(0, 200), readRecord(record));
    assert.deepEqual(
      {
        ...found,
        connections: found.connections.map(({ end, partialBytes }) => [end, partialBytes]),
      },
      {
        sent: 200,
        delivered: 200,
        lost: [],
        duplicated: 50,
        duplicatedWithinConnection: 0,
        outOfOrderWithinConnection: 0,
        gapsWithinConnection: 0,
        unknown: 0,
        connections: [["open", 0], ["fin", 11]],
      },
    );
  });
});

Deno.test("recorder: the record survives kill -9 in the middle of reading", async () => {
  await withRecorder({}, async (server, record) => {
    using connection = await connect(server);
    // Written until the kill makes it fail, so that the kill meets a busy server.
    const block = bytes("x".repeat(99) + "\n");
    const flood = new Uint8Array(block.length * 655);
    for (let at = 0; at < flood.length; at += block.length) flood.set(block, at);
    const writing = (async () => {
      while (true) await writeAll(connection, flood);
    })();
    await until("10 MB read", () => server.reader.update().byteCount > 10e6);
    const before = server.reader.update().byteCount;
    await Promise.all([server.signal("SIGKILL"), assert.rejects(writing)]);
    const [found] = readRecord(record);
    assert.ok(found !== undefined);
    const recorded = found.packets.length * block.length + found.partialBytes;
    assert.ok(recorded >= before, `${recorded} bytes on record, ${before} were before`);
    assert.ok(found.packets.every(({ bytes }) => bytes.length === block.length));
  });
});

Deno.test("recorder: length32 packets", async () => {
  await withRecorder({ framing: "length32" }, async (server, record) => {
    using connection = await connect(server);
    const packets = [0, 1, 70_000].map((length) => {
      const bytes = new Uint8Array(4 + length).fill(10);
      new DataView(bytes.buffer).setUint32(0, length);
      return bytes;
    });
    for (const packet of packets) await writeAll(connection, packet);
    await until("all read", () => server.reader.update().packetCount === packets.length);
    assert.deepEqual(compare(packets, readRecord(record)).lost, []);
  });
});

Deno.test("recorder: stop-reading stops at once, resume goes on", async () => {
  await withRecorder({}, async (server) => {
    using connection = await connect(server);
    await writeLines(connection, 0, 10);
    await until("10 read", () => server.reader.update().packetCount === 10);
    await server.command("stop-reading");
    await writeLines(connection, 10, 20);
    // A second connection is still accepted, which shows that the recorder is alive and had time.
    using _second = await connect(server);
    await until("second accepted", () => server.reader.update().connections.length === 2);
    assert.equal(server.reader.update().packetCount, 10);
    await server.command("resume");
    await until("20 read", () => server.reader.update().packetCount === 20);
  });
});

Deno.test("recorder: await-unread is done once there are unread bytes", async () => {
  await withRecorder({ commands: ["stop-reading"] }, async (server) => {
    using connection = await connect(server);
    let isDone = false;
    const done = server.command("await-unread").then(() => isDone = true);
    // Further connections are accepted: it has had time to look at the first one.
    using _second = await connect(server);
    await until("second accepted", () => server.reader.update().connections.length === 2);
    using _third = await connect(server);
    await until("third accepted", () => server.reader.update().connections.length === 3);
    assert.equal(isDone, false);
    await writeLines(connection, 0, 1);
    await within("it is done", done);
    assert.equal(server.reader.update().packetCount, 0);
  });
});

Deno.test("recorder: read-rate is an upper bound", async () => {
  await withRecorder({ commands: ["read-rate 20000"] }, async (server) => {
    using connection = await connect(server);
    const start = performance.now();
    await writeAll(connection, new Uint8Array(20_000).fill(10));
    await until("all read", () => server.reader.update().byteCount === 20_000);
    // A fifth of a second's worth may be saved up.
    const ms = performance.now() - start;
    assert.ok(ms >= 750, `20000 bytes at 20000 bytes a second took ${ms} ms`);
  });
});

for (
  const { command, unread, seen } of [
    { command: "close", unread: false, seen: "fin" },
    { command: "close", unread: true, seen: "fin" },
    { command: "close-unread", unread: true, seen: "reset" },
    { command: "reset", unread: false, seen: "reset" },
    { command: "half-close", unread: false, seen: "fin" },
  ]
) {
  const having = unread ? "with unread data" : "with nothing unread";
  Deno.test(`recorder: ${command} ${having} is seen as ${seen}`, async () => {
    await withRecorder({}, async (server) => {
      using connection = await connect(server);
      await writeLines(connection, 0, 10);
      await until("10 read", () => server.reader.update().packetCount === 10);
      if (unread) {
        await server.command("stop-reading");
        await writeLines(connection, 10, 20);
      }
      const ended = ending(connection);
      await server.command(command);
      assert.equal(await ended, seen);
      const read = command === "close" && unread ? 20 : 10;
      assert.equal(server.reader.update().packetCount, read);
      if (command === "half-close") {
        await writeLines(connection, 10, 20);
        await until("20 read", () => server.reader.update().packetCount === 20);
      } else {
        assert.equal(server.reader.update().connections[0]?.end, "closed");
        using _next = await connect(server);
        await until("accepts go on", () => server.reader.update().connections.length === 2);
      }
    });
  });
}

Deno.test("recorder: a client's reset is on record", async () => {
  await withRecorder({ commands: ["reply on"] }, async (server) => {
    await using client = new Pinger(spawnHere, "127.0.0.1", server.port);
    assert.equal((await client.do("connect 30000")).error, undefined);
    assert.equal((await client.do("write 100")).error, undefined);
    await until("1 read", () => server.reader.update().packetCount === 1);
    // Once this is carried out, the reply has been sent too.
    await server.command("reply off");
    // A process that dies with unread data resets.
    await client.child.signal("SIGKILL");
    await until("reset", () => server.reader.update().connections[0]?.end === "reset");
  });
});

Deno.test("recorder: accept-delay leaves a connection in the kernel's queue", async () => {
  await withRecorder({ commands: ["accept-delay 300"] }, async (server) => {
    const start = performance.now();
    using _connection = await connect(server);
    await until("accepted", () => server.reader.update().connections.length === 1);
    const ms = performance.now() - start;
    assert.ok(ms >= 295, `accepted after ${ms} ms`);
  });
});

Deno.test("recorder: reply, listen off and on", async () => {
  await withRecorder({ commands: ["reply on"] }, async (server) => {
    using connection = await connect(server);
    await writeLines(connection, 0, 1);
    assert.equal(await ending(connection), "data");
    await server.command("listen off");
    await assert.rejects(connect(server), Deno.errors.ConnectionRefused);
    await writeLines(connection, 1, 2);
    assert.equal(await ending(connection), "data");
    await server.command("listen on");
    using _again = await connect(server);
  });
});

Deno.test("recorder: ends with its standard input", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const recorder = new URL("../../lab/recorder.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-config", "--allow-all", recorder, `--record=${folder}/record`],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    await child.stdin.close();
    assert.equal((await child.output()).code, 0);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
