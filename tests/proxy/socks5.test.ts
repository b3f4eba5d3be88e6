/** SOCKS5, word by word: RFC 1928 and RFC 1929. */
import assert from "node:assert/strict";
import { WireError } from "../../src/base/errors.ts";
import { bytes } from "../support/bytes.ts";
import { within } from "../support/until.ts";
import type { ServedConnection } from "../support/scripted_server.ts";
import { readExactly, ScriptedProxy } from "./scripted_proxy.ts";

const GRANTED = [5, 0, 0, 1, 10, 0, 0, 1, 0x1f, 0x90];
const SECRET = "s3cret:@/%";
const WITH_SECRET = `socks5://user:${encodeURIComponent(SECRET)}@`;

/** Answers each of these reads with these bytes. */
function script(...steps: readonly (readonly [reads: number, says: readonly number[]])[]) {
  return async (connection: ServedConnection) => {
    for (const [reads, says] of steps) {
      await readExactly(connection, reads);
      await connection.write(Uint8Array.from(says));
    }
    await connection.readToEnd();
  };
}

/** What a request to `legacy:4000` is long. */
const REQUEST_BYTES = 4 + 1 + 6 + 2;

async function refusal(proxy: ScriptedProxy, scheme = "socks5"): Promise<WireError> {
  const error = await proxy.dial({ scheme }).then(() => undefined, (error) => error);
  assert.ok(error instanceof WireError, String(error));
  assert.ok(
    error.message.startsWith(`the proxy socks5://127.0.0.1:${proxy.port}: `),
    error.message,
  );
  assert.ok(error.message.endsWith(`(${error.code})`), error.message);
  for (const secret of [SECRET, encodeURIComponent(SECRET)]) {
    assert.ok(!`${error.message}${error.stack}`.includes(secret), error.message);
  }
  return error;
}

const TARGETS: readonly [hostname: string, request: readonly number[]][] = [
  ["legacy", [3, 6, ...bytes("legacy")]],
  ["192.0.2.7", [1, 192, 0, 2, 7]],
  ["2001:db8::7", [4, 0x20, 1, 0xd, 0xb8, ...new Array(11).fill(0), 7]],
];

for (const [hostname, address] of TARGETS) {
  Deno.test(`socks5: ${hostname} goes to the proxy as it is, and nothing is looked up here`, async () => {
    let heard: number[] = [];
    await using proxy = new ScriptedProxy(async (connection) => {
      heard = await readExactly(connection, 3);
      await connection.write(Uint8Array.of(5, 0));
      heard.push(...await readExactly(connection, 3 + address.length + 2));
      await connection.write(Uint8Array.from(GRANTED));
      await connection.readToEnd();
    });
    const wire = await proxy.dial({ scheme: "socks5", hostname, port: 4000 });
    assert.deepEqual(heard, [5, 1, 0, 5, 1, 0, ...address, 0x0f, 0xa0]);
    // Our SYN, and what was said.
    const { sendQueueBytes, bytesAcked } = wire.sample();
    assert.deepEqual([sendQueueBytes, bytesAcked], [0, 1 + heard.length]);
    assert.equal(wire.remoteAddress, `127.0.0.1:${proxy.port}`);
    wire.abort();
  });
}

Deno.test("socks5: user and password go out where the proxy wants them, as they are", async () => {
  let heard: number[] = [];
  const user = bytes("us:er"), secret = bytes(SECRET);
  await using proxy = new ScriptedProxy(async (connection) => {
    assert.deepEqual(await readExactly(connection, 4), [5, 2, 0, 2]);
    await connection.write(Uint8Array.of(5, 2));
    heard = await readExactly(connection, 3 + user.length + secret.length);
    await connection.write(Uint8Array.of(1, 0));
    await readExactly(connection, REQUEST_BYTES);
    await connection.write(Uint8Array.from(GRANTED));
    await connection.readToEnd();
  });
  const scheme = `socks5://us%3Aer:${encodeURIComponent(SECRET)}@`;
  (await proxy.dial({ scheme })).abort();
  assert.deepEqual(heard, [1, user.length, ...user, secret.length, ...secret]);
});

Deno.test("socks5: the server's first bytes are left to be read, however the proxy's come", async (t) => {
  const greeting = [...bytes("220 hello\r\n")];
  const forms: readonly [string, readonly number[]][] = [
    ["IPv4", GRANTED],
    ["IPv6", [5, 0, 0, 4, ...new Array(16).fill(9), 1, 2]],
    ["a name", [5, 0, 0, 3, 3, ...bytes("abc"), 1, 2]],
    ["an empty name", [5, 0, 0, 3, 0, 1, 2]],
  ];
  for (const [name, granted] of forms) {
    await t.step(`in one segment, bound to ${name}`, async () => {
      await using proxy = new ScriptedProxy(
        script([3, [5, 0]], [REQUEST_BYTES, [...granted, ...greeting]]),
      );
      await greeted(proxy);
    });
    await t.step(`byte by byte, bound to ${name}`, async () => {
      await using proxy = new ScriptedProxy(async (connection) => {
        await readExactly(connection, 3);
        for (const byte of [5, 0]) await connection.write(Uint8Array.of(byte));
        await readExactly(connection, REQUEST_BYTES);
        for (const byte of [...granted, ...greeting]) await connection.write(Uint8Array.of(byte));
        await connection.readToEnd();
      });
      await greeted(proxy);
    });
  }
  await t.step("everything before it was asked", async () => {
    await using proxy = new ScriptedProxy(async (connection) => {
      await connection.write(Uint8Array.of(5, 0, ...GRANTED, ...greeting));
      await connection.readToEnd();
    });
    await greeted(proxy);
  });

  async function greeted(proxy: ScriptedProxy): Promise<void> {
    const wire = await proxy.dial({ scheme: "socks5" });
    const said: number[] = [];
    const buffer = new Uint8Array(100);
    while (said.length < greeting.length) {
      const read = await within("the greeting", wire.read(buffer));
      assert.ok(read !== null);
      said.push(...buffer.subarray(0, read));
    }
    assert.deepEqual(said, greeting);
    wire.abort();
  }
});

const REPLIES: readonly [reply: number, words: RegExp][] = [
  [1, /general failure/],
  [2, /not allowed by its rules/],
  [3, /network unreachable/],
  [4, /host unreachable/],
  [5, /connection refused/],
  [6, /time to live expired/],
  [7, /does not know the command/],
  [8, /does not know the kind of address/],
  [9, /has no words for/],
];

Deno.test("socks5: each reply that refuses is named", async (t) => {
  for (const [reply, words] of REPLIES) {
    // Some end the connection after these two bytes, and say no more.
    for (const rest of [[], [0, 1, 0, 0, 0, 0, 0, 0]]) {
      await t.step(`reply ${reply} of ${2 + rest.length} bytes`, async () => {
        await using proxy = new ScriptedProxy(
          script([3, [5, 0]], [REQUEST_BYTES, [5, reply, ...rest]]),
        );
        const error = await refusal(proxy);
        assert.equal(error.code, "PROXY_REFUSED");
        assert.match(error.message, words);
        assert.match(error.message, new RegExp(`did not connect to legacy:4000: .*reply ${reply}`));
      });
    }
  }
});

interface Refusal {
  readonly title: string;
  readonly scheme?: string;
  readonly handle: (connection: ServedConnection) => Promise<void>;
  readonly code: string;
  readonly words: RegExp;
}

const REFUSALS: readonly Refusal[] = [
  {
    title: "no method that would do, and we have no credentials",
    handle: script([3, [5, 0xff]]),
    code: "PROXY_AUTH",
    words: /wants credentials/,
  },
  {
    title: "no method that would do, and we have credentials",
    scheme: WITH_SECRET,
    handle: script([4, [5, 0xff]]),
    code: "PROXY_AUTH",
    words: /takes neither user and password/,
  },
  {
    title: "a method that was not offered",
    handle: script([3, [5, 2]]),
    code: "PROXY_PROTOCOL",
    words: /chose method 2, which was not offered/,
  },
  {
    title: "credentials that it does not take",
    scheme: WITH_SECRET,
    handle: script([4, [5, 2]], [3 + 4 + SECRET.length, [1, 1]]),
    code: "PROXY_AUTH",
    words: /does not take the user and password/,
  },
  {
    title: "credentials answered in another version",
    scheme: WITH_SECRET,
    handle: script([4, [5, 2]], [3 + 4 + SECRET.length, [5, 0]]),
    code: "PROXY_PROTOCOL",
    words: /answered credentials with version 5/,
  },
  {
    title: "a server that speaks HTTP",
    handle: script([3, [...bytes("HTTP/1.1 400 Bad Request\r\n\r\n")]]),
    code: "PROXY_PROTOCOL",
    words: /does not speak SOCKS5: its answer begins with byte 72/,
  },
  {
    title: "another version in the reply",
    handle: script([3, [5, 0]], [REQUEST_BYTES, [4, 0x5a]]),
    code: "PROXY_PROTOCOL",
    words: /does not speak SOCKS5: its answer begins with byte 4/,
  },
  {
    title: "an address of unknown type",
    handle: script([3, [5, 0]], [REQUEST_BYTES, [5, 0, 0, 7, 1, 2]]),
    code: "PROXY_PROTOCOL",
    words: /address of unknown type 7/,
  },
  {
    title: "a FIN at once",
    handle: async (connection) => {
      await readExactly(connection, 3);
      connection.close();
    },
    code: "PROXY_CLOSED",
    words: /ended the connection without an answer/,
  },
  {
    title: "a FIN inside the reply",
    handle: async (connection) => {
      await readExactly(connection, 3);
      await connection.write(Uint8Array.of(5, 0));
      await readExactly(connection, REQUEST_BYTES);
      await connection.write(Uint8Array.of(5, 0, 0, 1, 10));
      connection.close();
    },
    code: "PROXY_CLOSED",
    words: /ended the connection without an answer/,
  },
];

for (const { title, scheme, handle, code, words } of REFUSALS) {
  Deno.test(`socks5: ${title}`, async () => {
    await using proxy = new ScriptedProxy(handle);
    const error = await refusal(proxy, scheme);
    assert.equal(error.code, code);
    assert.match(error.message, words);
  });
}
