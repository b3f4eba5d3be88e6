/** CONNECT, word by word: RFC 9110, 9.3.6. */
import assert from "node:assert/strict";
import { WireError } from "../../src/base/errors.ts";
import { bytes } from "../support/bytes.ts";
import { within } from "../support/until.ts";
import { ScriptedProxy } from "./scripted_proxy.ts";

const SECRET = "s3crét:@/";
const WITH_SECRET = `http://user:${encodeURIComponent(SECRET)}@`;

/** A proxy that answers what it was asked with this. */
function answering(answer: string | Uint8Array, heads: string[] = []): ScriptedProxy {
  return new ScriptedProxy(async (connection) => {
    heads.push(await connection.readUntil("\r\n\r\n"));
    await connection.write(answer);
    await connection.readToEnd();
  });
}

async function refusal(proxy: ScriptedProxy, scheme = "http"): Promise<WireError> {
  const error = await proxy.dial({ scheme }).then(() => undefined, (error) => error);
  assert.ok(error instanceof WireError, String(error));
  assert.ok(error.message.startsWith(`the proxy http://127.0.0.1:${proxy.port}: `), error.message);
  assert.ok(error.message.endsWith(`(${error.code})`), error.message);
  for (const secret of [SECRET, encodeURIComponent(SECRET), BASIC]) {
    assert.ok(!`${error.message}${error.stack}`.includes(secret), error.message);
  }
  return error;
}

const BASIC = btoa(String.fromCharCode(...bytes(`user:${SECRET}`)));

Deno.test("http: what is asked, and what stands on the wire then", async () => {
  const heads: string[] = [];
  await using proxy = answering("HTTP/1.1 200 Connection established\r\n\r\n", heads);
  const plain = await proxy.dial({ scheme: "http" });
  assert.equal(heads[0], "CONNECT legacy:4000 HTTP/1.1\r\nHost: legacy:4000\r\n\r\n");
  const { sendQueueBytes, bytesAcked } = plain.sample();
  assert.deepEqual([sendQueueBytes, bytesAcked], [0, 1 + (heads[0]?.length ?? 0)]);
  plain.abort();
  (await proxy.dial({ scheme: WITH_SECRET, hostname: "2001:db8::7", port: 1 })).abort();
  assert.equal(
    heads[1],
    "CONNECT [2001:db8::7]:1 HTTP/1.1\r\nHost: [2001:db8::7]:1\r\n" +
      `Proxy-Authorization: Basic ${BASIC}\r\n\r\n`,
  );
});

Deno.test("http: the server's first bytes are left to be read, however the proxy's come", async (t) => {
  const heads = [
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\nVia: 1.1 x\r\n\r\n",
    "HTTP/1.1 200\n\n",
    "HTTP/1.1 204 \r\nX: 1\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
  ];
  const greeting = "\r\n220 hello\r\n";
  for (const head of heads) {
    for (const how of ["in one segment", "byte by byte", "before it was asked"]) {
      await t.step(`${JSON.stringify(head)} ${how}`, async () => {
        await using proxy = new ScriptedProxy(async (connection) => {
          if (how !== "before it was asked") await connection.readUntil("\r\n\r\n");
          const all = bytes(head, greeting);
          if (how !== "byte by byte") await connection.write(all);
          else for (const byte of all) await connection.write(Uint8Array.of(byte));
          await connection.readToEnd();
        });
        const wire = await proxy.dial({ scheme: "http" });
        let said = "";
        const buffer = new Uint8Array(100);
        while (said.length < greeting.length) {
          const read = await within("the greeting", wire.read(buffer));
          assert.ok(read !== null);
          said += new TextDecoder().decode(buffer.subarray(0, read));
        }
        assert.equal(said, greeting);
        wire.abort();
      });
    }
  }
});

const REFUSALS: readonly [answer: string, code: string, words: RegExp, scheme?: string][] = [
  [
    "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
    "PROXY_AUTH",
    /it wants credentials: give it USER:PASSWORD; it said "HTTP\/1.1 407 Proxy/,
  ],
  [
    "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
    "PROXY_AUTH",
    /it does not take the user and password; it said "HTTP\/1.1 407 Proxy/,
    WITH_SECRET,
  ],
  [
    'HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate:Digest realm="x"\r\n\r\n',
    "PROXY_AUTH",
    /it takes no USER:PASSWORD \(Basic\), which .*; it wants "Negotiate, Digest realm=\\"x\\""/,
    WITH_SECRET,
  ],
  [
    'HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n',
    "PROXY_AUTH",
    /it does not take the user and password; it said "HTTP\/1.1 407 No"/,
    WITH_SECRET,
  ],
  [
    "HTTP/1.0 401 Unauthorized\r\n\r\n",
    "PROXY_AUTH",
    /it does not take the user and password; it said "HTTP\/1.0 401 Un/,
    WITH_SECRET,
  ],
  [
    "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n",
    "PROXY_REFUSED",
    /did not connect to legacy:4000: it said "HTTP\/1.1 502 Bad Gateway" \(/,
  ],
  ["HTTP/1.0 301 Moved\r\n\r\n", "PROXY_REFUSED", /it said "HTTP\/1.0 301 Moved"/],
  [
    `HTTP/1.1 503 \x1b[31m"red"\x85 ${"x".repeat(500)}\r\n\r\n`,
    "PROXY_REFUSED",
    /it said "HTTP\/1\.1 503 \\x1b\[31m\\"red\\"\\xc2\\x85 x{70,80}"… \(\d+ bytes\)/,
  ],
  [
    "SSH-2.0-OpenSSH_9.2\r\n",
    "PROXY_PROTOCOL",
    /does not speak HTTP: its answer begins with "SSH-2"/,
  ],
  ["HTTP/2 200\r\n\r\n", "PROXY_PROTOCOL", /does not speak HTTP: .*"HTTP\/2 200\\r\\n"/],
  ["HTTP/1.1 200OK\r\n\r\n", "PROXY_PROTOCOL", /does not speak HTTP/],
  [
    `HTTP/1.1 200 OK\r\nX: ${"y".repeat(20_000)}\r\n\r\n`,
    "PROXY_PROTOCOL",
    /no end within 16384 bytes; it begins with "HTTP/,
  ],
];

for (const [answer, code, words, scheme] of REFUSALS) {
  Deno.test(`http: ${JSON.stringify(answer.slice(0, 50))} is ${code}${scheme ? " with credentials" : ""}`, async () => {
    await using proxy = answering(answer);
    const error = await refusal(proxy, scheme);
    assert.equal(error.code, code);
    assert.match(error.message, words);
  });
}

Deno.test("http: a FIN in the place of an answer", async () => {
  await using closing = new ScriptedProxy(async (connection) => {
    await connection.readUntil("\r\n\r\n");
    connection.close();
  });
  assert.equal((await refusal(closing)).code, "PROXY_CLOSED");
  await using inside = new ScriptedProxy(async (connection) => {
    await connection.readUntil("\r\n\r\n");
    await connection.write("HTTP/1.1 200 OK\r\n");
    connection.close();
  });
  assert.equal((await refusal(inside)).code, "PROXY_CLOSED");
});
