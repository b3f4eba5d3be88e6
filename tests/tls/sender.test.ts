/**
 * A sender over TLS against servers that refuse late, are killed, or get damaged records:
 * nothing that their programs have not read is confirmed by a trick of TLS.
 */

import assert from "node:assert/strict";
import { Sender } from "../../mod.ts";
import { grantedLibc, testUnless } from "../kernel/helpers.ts";
import { lines, packets } from "../support/packets.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { assertNoneLost, AUTHORITY, CLIENT, fileOf, heard } from "./helpers.ts";
import { noOpenssl, OpensslServer } from "./openssl.ts";
import { CipherRelay } from "./relay.ts";
import { DecryptingServer } from "./servers.ts";
import { LateServer } from "./late_server.ts";

const noKernel = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

testUnless(noKernel, "packets arrive over TLS; the end is close_notify, then FIN", async () => {
  using dir = new TempDir();
  await using server = new DecryptingServer();
  const remote = `tls://127.0.0.1:${server.port}`;
  const sender = await Sender.open(dir.queue, remote, { tls: AUTHORITY, holdMs: 0 });
  assert.equal(sender.remote, remote);
  await sender.enqueueMany(packets(1000));
  await sender.drained();
  const { path } = sender.stats();
  assert.equal(path?.tls?.version, "TLSv1.3");
  assert.equal(path.tls.serverCertificateExpiresAtMs, Date.UTC(2126, 0, 1));
  await sender.close();
  assert.equal(server.text, lines(1000));
  assert.deepEqual(server.ends, ["close_notify"]);
  assert.equal(sender.queue.stats().packets, 0);
});

testUnless(noKernel, "a handshake has a limit of its own, beyond that of the connect", async () => {
  using dir = new TempDir();
  await using server = new DecryptingServer();
  await using relay = new CipherRelay(server.port, 400);
  const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${relay.port}`, {
    tls: AUTHORITY,
    connectTimeoutMs: 100,
    slowConnectTimeoutMs: 100,
  });
  await sender.enqueueMany(packets(3));
  await sender.drained();
  assert.equal(sender.stats().failedAttempts, 0);
  await sender.close();
  assert.equal(server.text, lines(3));
});

testUnless(noKernel, "options of TLS are refused for a remote without it", async () => {
  using dir = new TempDir();
  await assert.rejects(Sender.open(dir.queue, "tcp://127.0.0.1:4000", { tls: AUTHORITY }), {
    name: "OptionError",
    option: "tls",
    message: /is for a remote that begins with tls:\/\//,
  });
  await assert.rejects(
    Sender.open(dir.queue, "tls://127.0.0.1:4000", { tls: { cert: CLIENT.cert } }),
    { name: "OptionError", option: "tls.cert" },
  );
});

for (const judgesAfterMs of [0, 2500]) {
  testUnless(
    noOpenssl(),
    `a client certificate that is refused ${judgesAfterMs} ms after the handshake confirms nothing`,
    async () => {
      using dir = new TempDir();
      await using server = await LateServer.start(judgesAfterMs);
      await using sender = await Sender.open(dir.queue, `tls://127.0.0.1:${server.port}`, {
        tls: { ...AUTHORITY, acceptMs: 100 },
        holdMs: 200,
      });
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
}

testUnless(
  noKernel,
  "one flipped bit on the way ends the connection; nothing is lost",
  async () => {
    using dir = new TempDir();
    await using server = new DecryptingServer();
    await using relay = new CipherRelay(server.port);
    const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${relay.port}`, {
      tls: AUTHORITY,
      backoffFirstMs: 1,
    });
    const statuses = heard(sender);
    await sender.enqueueMany(packets(500));
    const first = await relay.next();
    await until("something has arrived", () => server.bytesOf(0) > 0);
    first.flipBit();
    await sender.enqueueMany(packets(500, 501));
    await until("it was noticed", () => sender.stats().connections === 2);
    await sender.close({ deliverTimeoutMs: 20_000 });
    assertNoneLost(server.text, 1000);
    assert.ok(
      statuses.some(({ words }) => /a record was damaged on the way to the server/.test(words)),
      statuses.map(({ words }) => words).join("\n"),
    );
  },
);

testUnless(
  noKernel,
  "a FIN without close_notify is unclean, also where FINs are orderly ends",
  async () => {
    using dir = new TempDir();
    await using server = new DecryptingServer();
    await using relay = new CipherRelay(server.port);
    const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${relay.port}`, {
      tls: AUTHORITY,
      holdMs: 500,
      onPeerFin: "confirm",
      backoffFirstMs: 1,
    });
    const statuses = heard(sender);
    await sender.enqueueMany(packets(50));
    const first = await relay.next();
    await sender.drained();
    await first.fin();
    await until("there is another connection", () => sender.stats().connections === 2);
    assert.equal(sender.stats().redeliveredPackets, 50);
    assert.ok(
      statuses.some(({ verdict, words }) =>
        verdict.kind === "wire-failed" && verdict.code === "TLS_TRUNCATED" &&
        /a FIN without TLS's close_notify/.test(words)
      ),
    );
    await sender.close();
    assertNoneLost(server.text, 50);
  },
);

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  testUnless(
    noOpenssl(),
    `openssl s_server ended by ${signal} in mid-stream: nothing is lost`,
    async () => {
      using dir = new TempDir();
      const shown = { certificate: "server" };
      const client = ["-Verify", "1", "-CAfile", fileOf("authority.pem"), "-verify_return_error"];
      const first = await OpensslServer.start(shown, client);
      const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${first.port}`, {
        tls: { ...AUTHORITY, ...CLIENT },
        backoffFirstMs: 10,
        backoffCapMs: 100,
      });
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
      await until("all is read", () => second.text.endsWith("packet 4000\n"));
      assertNoneLost(text + second.text, 4000);
    },
  );
}

testUnless(noKernel, "nothing of TLS is loaded for a tcp:// remote", async () => {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", new URL("../../mod.ts", import.meta.url).href],
    stderr: "null",
  }).output();
  assert.ok(success);
  interface Module {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly isDynamic?: boolean;
      readonly code?: { readonly specifier?: string };
    }[];
  }
  const { modules, roots }: { modules: Module[]; roots: string[] } = JSON.parse(
    new TextDecoder().decode(stdout),
  );
  const byName = new Map(modules.map((module) => [module.specifier, module]));
  const loaded = new Set<string>();
  const visit = (name: string): void => {
    if (loaded.has(name)) return;
    loaded.add(name);
    for (const { isDynamic, code } of byName.get(name)?.dependencies ?? []) {
      if (isDynamic !== true && code?.specifier !== undefined) visit(code.specifier);
    }
  };
  for (const root of roots) visit(root);
  assert.ok([...loaded].some((name) => name.endsWith("/src/kernel/tcp_wire.ts")));
  assert.deepEqual(
    [...loaded].filter((name) => name === "node:tls" || name.includes("/src/tls/")),
    [],
  );
  // And it would be seen: with the dynamic import followed, it is there.
  assert.ok(byName.has("node:tls"));
  // Who speaks TLS without confirm "reader" loads nothing of OpenSSL.
  const dialer = [...byName.keys()].find((name) => name.endsWith("/src/tls/dialer.ts"));
  visit(dialer ?? assert.fail("there is no dialer"));
  assert.ok(loaded.has("node:tls"));
  assert.deepEqual([...loaded].filter((name) => name.includes("/src/tls/openssl/")), []);
  assert.ok([...byName.keys()].some((name) => name.endsWith("/src/tls/openssl/libssl.ts")));
});
