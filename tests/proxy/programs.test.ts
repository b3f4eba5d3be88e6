/** Through proxies as people run them: what arrives, and what is said where nothing does. */
import assert from "node:assert/strict";
import { Sender } from "../../mod.ts";
import { testUnless } from "../kernel/helpers.ts";
import { lines, packets } from "../support/packets.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { seen } from "../support/sender_bench.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { AUTHORITY } from "../tls/helpers.ts";
import { DecryptingServer } from "../tls/servers.ts";
import { noKernel, PROXIES, RunningProxy } from "./programs.ts";

const WRONG = "wrong%secret";

interface Refusal {
  readonly title: string;
  readonly remote: string;
  /** Instead of the right one. */
  readonly password?: string;
  readonly words: RegExp;
}

const refused = (words: RegExp): Refusal => ({
  title: "a server that refuses",
  remote: `127.0.0.1:${ScriptedServer.freePort()}`,
  words,
});
const forbidden = (words: RegExp): Refusal => ({
  title: "a server that its rules forbid",
  remote: "127.0.0.66:9",
  words,
});
const unknown = (words: RegExp): Refusal => ({
  title: "a password that is wrong",
  remote: "127.0.0.1:9",
  password: WRONG,
  words,
});

/** What each says of what it does not do. */
const REFUSALS: { readonly [name: string]: readonly Refusal[] } = {
  microsocks: [
    refused(/did not connect to 127\.0\.0\.1:\d+: connection refused \(reply 5\)/),
    unknown(/does not take the user and password \(PROXY_AUTH\)/),
  ],
  dante: [
    refused(/did not connect to 127\.0\.0\.1:\d+: connection refused \(reply 5\)/),
    forbidden(/did not connect to 127\.0\.0\.66:9: not allowed by its rules \(reply 2\)/),
  ],
  tinyproxy: [
    refused(/did not connect to .*: it said "HTTP\/1\.[01] 500 Unable to connect"/),
    unknown(/does not take the user and password; it said "HTTP\/1\.[01] 401 /),
  ],
  squid: [
    refused(/did not connect to .*: it said "HTTP\/1\.1 503 Service Unavailable"/),
    forbidden(/did not connect to .*: it said "HTTP\/1\.1 403 Forbidden"/),
    unknown(/does not take the user and password; it said "HTTP\/1\.[01] 407 /),
  ],
};

const QUICK = { backoffFirstMs: 10, backoffCapMs: 100 } as const;

for (const program of PROXIES) {
  const obstacle = noKernel ?? program.obstacle;

  testUnless(obstacle, `${program.name}: killed in mid-stream, nothing is lost`, async () => {
    using dir = new TempDir();
    await using server = new ScriptedServer().start();
    const served = server.readAll();
    await using proxy = await RunningProxy.start(program, dir);
    const via = proxy.url();
    const sender = await Sender.open(dir.queue, server.remote, { ...QUICK, via });
    try {
      await sender.enqueueMany(packets(2000));
      await until("something has arrived", () => served.join("").length > 1000);
      for (let i = 0; i < 20; i++) await sender.enqueueMany(packets(100, 2001 + 100 * i));
      await proxy.kill();
      await proxy.startAgain();
    } finally {
      await sender.close({ deliverTimeoutMs: 20_000 });
    }
    const found = new Set(served.join("").split("\n"));
    assert.deepEqual(lines(4000).trimEnd().split("\n").filter((line) => !found.has(line)), []);
  });

  testUnless(obstacle, `${program.name}: the server's greeting reaches the session`, async () => {
    using dir = new TempDir();
    await using server = new ScriptedServer().start();
    await using proxy = await RunningProxy.start(program, dir);
    const sender = await Sender.open(dir.queue, server.remote, {
      ...QUICK,
      via: proxy.url(),
      session: { open: [{ expect: "220 hello\r\n" }, { send: "HELO\r\n", expect: "250 ok\r\n" }] },
    });
    try {
      await sender.enqueueMany(packets(3));
      const connection = await server.accept();
      await connection.write("220 hello\r\n");
      await connection.readUntil("HELO\r\n");
      await connection.write("250 ok\r\n");
      assert.equal(await connection.readUntil("packet 3\n"), lines(3));
      await sender.drained();
      assert.equal(sender.remote, server.remote);
    } finally {
      await sender.close({ deliverTimeoutMs: 0 });
    }
  });

  testUnless(obstacle, `${program.name}: TLS goes through it, with the server's name`, async () => {
    using dir = new TempDir();
    await using server = new DecryptingServer();
    await using proxy = await RunningProxy.start(program, dir);
    const sender = await Sender.open(dir.queue, `tls://localhost:${server.port}`, {
      ...QUICK,
      via: proxy.url(),
      tls: AUTHORITY,
    });
    try {
      await sender.enqueueMany(packets(300));
      await sender.drained();
      await until("all is read", () => server.text === lines(300));
    } finally {
      await sender.close({ deliverTimeoutMs: 0 });
    }
  });

  for (const { title, remote, password, words } of REFUSALS[program.name] ?? []) {
    testUnless(obstacle, `${program.name}: ${title}, in words and without secrets`, async () => {
      using dir = new TempDir();
      await using proxy = await RunningProxy.start(program, dir);
      const log: string[] = [];
      const take = (...data: unknown[]) => void log.push(data.map(String).join(" "));
      const sender = await Sender.open(dir.queue, `tcp://${remote}`, {
        ...QUICK,
        via: proxy.url(password),
        logger: { debug: take, info: take, warn: take, error: take },
      });
      try {
        await sender.enqueueMany(packets(1));
        const { words: said } = await seen(sender, ({ state }) => state === "backing-off");
        assert.ok(said.includes(`the proxy ${proxy.plainUrl}: `), said);
        assert.match(said, words);
      } finally {
        await sender.close({ deliverTimeoutMs: 0 });
      }
      assert.ok(log.some((line) => line.includes(`go through the proxy ${proxy.plainUrl}`)));
      for (const secret of [password ?? WRONG, program.password ?? WRONG]) {
        for (const form of [secret, encodeURIComponent(secret)]) {
          assert.ok(!log.join("\n").includes(form), log.join("\n"));
        }
      }
    });
  }
}

const [either] = PROXIES;
testUnless(
  noKernel ?? either?.obstacle,
  "several servers behind one proxy: where it cannot reach the first, the next gets all",
  async () => {
    if (either === undefined) throw new TypeError("There is no proxy.");
    using dir = new TempDir();
    await using server = new ScriptedServer().start();
    const served = server.readAll();
    await using proxy = await RunningProxy.start(either, dir);
    const gone = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
    const sender = await Sender.open(dir.queue, [gone, server.remote], {
      ...QUICK,
      via: proxy.url(),
    });
    try {
      await sender.enqueueMany(packets(500));
      await sender.drained();
      assert.equal(served.join(""), lines(500));
    } finally {
      await sender.close({ deliverTimeoutMs: 0 });
    }
  },
);
