/** TLS to the database, with a real server and the certificates of the tests. */
import assert from "node:assert/strict";
import { runWith } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { fileOf } from "../tls/helpers.ts";
import { until } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** Gives a server a certificate of the tests, and takes connections over TLS alone. */
async function speakTls(server: PostgresServer, certificate: string): Promise<void> {
  for (const [name, mode] of [["pem", 0o644], ["key", 0o600]] as const) {
    const path = `${server.directory}/server.${name}`;
    Deno.writeFileSync(path, Deno.readFileSync(fileOf(`${certificate}.${name}`)), { mode });
    if (Deno.uid() === 0) Deno.chownSync(path, 65534, 65534);
  }
  server.set("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'");
  Deno.writeTextFileSync(`${server.directory}/pg_hba.conf`, "hostssl all all 127.0.0.1/32 trust\n");
  await server.reload();
}

Deno.test({
  ...unless(NO_POSTGRES, "over TLS: required, and with the certificate checked"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await speakTls(server, "server");
    const at = (query: string, host = "localhost") =>
      `postgres://postgres@${host}:${server.port}/postgres/outbox?durability=power-loss${query}`;
    const run = (url: string, ...flags: string[]) => {
      const net = `--allow-net=localhost:${server.port},127.0.0.1:${server.port}`;
      return runWith(["--no-prompt", net, ...flags], ["enqueue", "-q", url, "one"]);
    };
    const trusting = `--cert=${fileOf("authority.pem")}`;

    await until("clear text is refused", async () => (await run(at(""))).code === 1);
    assert.match((await run(at(""))).err, /pg_hba\.conf/);
    const stored = (id: number) => ({ code: 0, out: `stored 1 packet, id ${id}\n`, err: "" });
    // Whoever it is: what is said is hidden from who only listens.
    assert.deepEqual(await run(at("&sslmode=require")), stored(1));
    const checked = await run(at("&sslmode=verify-full"));
    assert.equal(checked.code, 1);
    assert.match(checked.err, /certificate/i);
    assert.deepEqual(await run(at("&sslmode=verify-full"), trusting), stored(2));

    // A certificate of another host, and one that is no longer good.
    for (
      const [name, words] of [["other", /altname|not valid for/i], [
        "expired",
        /expired|unable to verify/i,
      ]] as const
    ) {
      await speakTls(server, name);
      await until(`${name} is refused`, async () => {
        const { code, err } = await run(at("&sslmode=verify-full"), trusting);
        return code === 1 && words.test(err);
      });
      assert.equal((await run(at("&sslmode=require"), trusting)).code, 0);
    }
  },
});
