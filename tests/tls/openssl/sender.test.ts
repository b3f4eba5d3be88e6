/**
 * A sender with `confirm: "reader"`: a packet is gone once the server's program has read it,
 * and no packet that nobody has read.
 */

import assert from "node:assert/strict";
import { Sender, type SenderOptions } from "../../../mod.ts";
import { testUnless } from "../../kernel/helpers.ts";
import { lines, packets } from "../../support/packets.ts";
import { ScriptedServer } from "../../support/scripted_server.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { until } from "../../support/until.ts";
import { assertNoneLost, AUTHORITY, CLIENT, fileOf, heard, noLibssl } from "../helpers.ts";
import { LateServer } from "../late_server.ts";
import { isListening, lacks, noOpenssl, OpensslServer } from "../openssl.ts";
import { CipherRelay } from "../relay.ts";
import { DecryptingServer } from "../servers.ts";
import { noPython, PacedServer } from "./paced_server.ts";

const READER = {
  tls: AUTHORITY,
  confirm: "reader",
  backoffFirstMs: 10,
  backoffCapMs: 100,
} as const;

/** @param port Of a server on loopback. */
function open(dir: TempDir, port: number, options: Partial<SenderOptions> = {}): Promise<Sender> {
  return Sender.open(dir.queue, `tls://127.0.0.1:${port}`, { ...READER, ...options });
}

/** The first packet makes a connection, and is read. */
async function connect(sender: Sender, server: PacedServer): Promise<void> {
  await sender.enqueueMany(packets(1));
  await server.accepting(until("it is read", () => sender.queue.stats().packets === 0));
}

testUnless(
  noOpenssl() ?? noLibssl(),
  "packets are gone once they are read, and close waits for that",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" });
    const sender = await open(dir, server.port);
    await sender.enqueueMany(packets(1000));
    await until("they are gone", () => sender.queue.stats().packets === 0);
    assert.equal(sender.stats().confirmedBy, "reader");
    assert.equal(sender.stats().path?.tls?.version, "TLSv1.3");
    await sender.enqueueMany(packets(10, 1001));
    await sender.close();
    assert.equal(sender.queue.stats().packets, 0);
    await until("all is printed", () => server.text === lines(1010));
  },
);

testUnless(
  noOpenssl() ?? noLibssl(),
  "a server that pads its records is understood, too",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" }, [
      ...["-record_padding", "64"],
    ]);
    const sender = await open(dir, server.port);
    for (let i = 0; i < 5; i++) {
      await sender.enqueueMany(packets(100, 1 + 100 * i));
      await until("they are gone", () => sender.queue.stats().packets === 0);
    }
    assert.equal(sender.stats().connections, 1);
    await sender.close();
    await until("all is printed", () => server.text === lines(500));
  },
);

/** Stands between, and stays when the server is killed. */
const PROXIES = [
  { name: "no proxy", obstacle: undefined },
  { name: "socat", obstacle: lacks("socat", "-V") },
] as const;

for (const { name, obstacle } of PROXIES) {
  testUnless(
    noPython() ?? noLibssl() ?? obstacle,
    `a server that is killed with most of it unread loses nothing: ${name}`,
    async () => {
      using dir = new TempDir();
      const file = dir.file("read");
      const text = () => Deno.readTextFileSync(file);
      let port = ScriptedServer.freePort();
      const first = await PacedServer.start(file, port);
      let proxy: Deno.ChildProcess | undefined;
      if (name === "socat") {
        const serverPort = port;
        port = ScriptedServer.freePort();
        proxy = new Deno.Command("socat", {
          args: [
            `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork`,
            `TCP:127.0.0.1:${serverPort}`,
          ],
          stderr: "null",
        }).spawn();
        await until("socat listens", () => isListening(port));
      }
      const sender = await open(dir, port);
      try {
        await connect(sender, first);
        let stored = 1;
        const confirmed = () => stored - sender.queue.stats().packets;
        // One after the other, so that there are several pings among them.
        const store = async (upTo: number) => {
          for (; stored < upTo; stored += 100) {
            await sender.enqueueMany(packets(100, stored + 1));
            await until("its kernel has them", () => sender.stats().inFlightPackets === 0);
          }
        };
        await store(1001);
        assert.equal(confirmed(), 1);
        await until("some are read, and said to be", async () => {
          await first.read(100);
          return confirmed() > 1;
        });
        // However far it has read by now: these it reads no more.
        await store(2001);
        const gone = confirmed();
        await first.kill();
        const read = text();
        assert.ok(read.startsWith(lines(gone)), `${gone} are gone, and were not read`);
        assert.ok(!read.includes("packet 1002\n"), "what was not to be read was");
        await Deno.writeTextFile(file, "");
        await using second = await PacedServer.start(file, first.port);
        await until("all are gone", async () => {
          await second.read(100_000);
          return sender.queue.stats().packets === 0;
        });
        assertNoneLost(read + text(), 2001);
        const closing = sender.close();
        await second.accepting(closing);
      } finally {
        await sender.close({ deliverTimeoutMs: 0 });
        await first.kill();
        proxy?.kill("SIGKILL");
        await proxy?.status;
      }
    },
  );
}

testUnless(
  noPython() ?? noLibssl(),
  "a program that does not read is a peer that has stalled, and gets a new connection",
  async () => {
    using dir = new TempDir();
    await using server = await PacedServer.start(dir.file("read"));
    const sender = await open(dir, server.port, { peerStallTimeoutMs: 1500 });
    const statuses = heard(sender);
    await connect(sender, server);
    await sender.enqueueMany(packets(100, 2));
    await until(
      "it is said",
      () => statuses.some(({ verdict }) => verdict.kind === "peer-stalled"),
    );
    await until("it is given up", () => sender.stats().path === undefined);
    assert.equal(sender.queue.stats().packets, 100);
    await sender.close({ deliverTimeoutMs: 0 });
  },
);

testUnless(
  noLibssl(),
  "a server that answers no KeyUpdate gets nothing, and it is said why",
  async () => {
    using dir = new TempDir();
    await using server = new DecryptingServer();
    const sender = await open(dir, server.port, { tls: { ...AUTHORITY, handshakeTimeoutMs: 300 } });
    const statuses = heard(sender);
    await sender.enqueueMany(packets(10));
    await until(
      "it is said",
      () =>
        statuses.some(({ words, error }) =>
          /has not answered a TLS KeyUpdate .* confirm "kernel"/.test(`${words} ${error?.message}`)
        ),
    );
    assert.equal(sender.queue.stats().packets, 10);
    await sender.close({ deliverTimeoutMs: 0 });
    assert.equal(server.text, "");
  },
);

testUnless(
  noOpenssl() ?? noLibssl(),
  "a client certificate that is refused 1.5 s after the handshake confirms nothing",
  async () => {
    using dir = new TempDir();
    await using server = await LateServer.start(1500);
    const sender = await open(dir, server.port);
    const statuses = heard(sender);
    await sender.enqueueMany(packets(100));
    await until(
      "it was refused",
      () =>
        statuses.some(({ words, error }) =>
          /wants a certificate of ours/.test(`${words} ${error?.message}`)
        ),
    );
    assert.equal(sender.queue.stats().packets, 100);
    assert.equal(server.readBytes, 0);
    await sender.close({ deliverTimeoutMs: 0 });
  },
);

testUnless(
  noOpenssl() ?? noLibssl(),
  "one flipped bit on the way ends the connection; nothing is lost",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" });
    await using relay = new CipherRelay(server.port);
    const sender = await open(dir, relay.port);
    const statuses = heard(sender);
    await sender.enqueueMany(packets(500));
    const first = await relay.next();
    await until("something has arrived", () => server.text.length > 0);
    first.flipBit();
    await sender.enqueueMany(packets(500, 501));
    await until("it was noticed", () => sender.stats().connections === 2);
    await sender.close({ deliverTimeoutMs: 20_000 });
    await until("all is printed", () => server.text.endsWith("packet 1000\n"));
    assertNoneLost(server.text, 1000);
    assert.ok(
      statuses.some(({ words }) => /a record was damaged on the way to the server/.test(words)),
      statuses.map(({ words }) => words).join("\n"),
    );
  },
);

testUnless(
  noPython() ?? noLibssl(),
  "a FIN without close_notify is unclean; what was not read is sent again",
  async () => {
    using dir = new TempDir();
    await using server = await PacedServer.start(dir.file("read"));
    await using relay = new CipherRelay(server.port);
    const sender = await open(dir, relay.port);
    const statuses = heard(sender);
    await connect(sender, server);
    const first = await relay.next();
    await sender.enqueueMany(packets(49, 2));
    await until("its kernel has everything", () => sender.stats().inFlightPackets === 0);
    await first.fin();
    await server.accepting(
      until("there is another connection", () => sender.stats().connections === 2),
    );
    assert.ok(
      statuses.some(({ verdict }) =>
        verdict.kind === "wire-failed" && verdict.code === "TLS_TRUNCATED"
      ),
    );
    await server.accepting(sender.close());
    const missing = (): number[] => {
      // What was read of the first connection may end within a packet.
      const text = Deno.readTextFileSync(dir.file("read"));
      const numbers = Array.from({ length: 50 }, (_, index) => index + 1);
      return numbers.filter((number) => !text.includes(`packet ${number}\n`));
    };
    // That the server has read them is known before it has written them down.
    await server.accepting(until("all packets", () => missing().length === 0));
  },
);

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  testUnless(
    noOpenssl() ?? noLibssl(),
    `openssl s_server ended by ${signal} in mid-stream: nothing is lost`,
    async () => {
      using dir = new TempDir();
      const shown = { certificate: "server" };
      const client = ["-Verify", "1", "-CAfile", fileOf("authority.pem"), "-verify_return_error"];
      const first = await OpensslServer.start(shown, client);
      const sender = await open(dir, first.port, { tls: { ...AUTHORITY, ...CLIENT } });
      let text = "";
      {
        await using server = first;
        await sender.enqueueMany(packets(2000));
        await until("something is read", () => server.text.length > 1000);
        for (let i = 0; i < 20; i++) await sender.enqueueMany(packets(100, 2001 + 100 * i));
        await server.end(signal);
        text += server.text;
      }
      await using second = await OpensslServer.start(shown, client, first.port);
      await sender.close({ deliverTimeoutMs: 20_000 });
      assert.equal(sender.queue.stats().packets, 0);
      await until("all is printed", () => second.text.endsWith("packet 4000\n"));
      assertNoneLost(text + second.text, 4000);
    },
  );
}

testUnless(noLibssl(), "a path of OpenSSL's is refused where nothing uses it", async () => {
  using dir = new TempDir();
  await assert.rejects(
    Sender.open(dir.queue, "tls://127.0.0.1:4000", { tls: AUTHORITY, libssl: "/x/libssl.so.3" }),
    { name: "OptionError", option: "libssl" },
  );
});
