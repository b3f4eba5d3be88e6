/**
 * Holds everything that is said of an option against the one table: docstrings,
 * docs/OPTIONS.md, the JSON Schema, and what the library takes.
 */
import { Ajv } from "ajv";
import fc from "./support/properties.ts";
import assert from "node:assert/strict";
import {
  optionsPage,
  optionsSchema,
  optionsSchemaText,
  protocolsPage,
  routeSchemaText,
} from "../docs/generate.ts";
import { OptionError } from "../src/base/errors.ts";
import {
  ANSWER_OPTIONS,
  CLOSE_OPTIONS,
  DELIVERY_OPTIONS,
  HEARTBEAT_OPTIONS,
  KEEP_ALIVE_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  RELAY_OPTIONS,
  SESSION_OPTIONS,
  SOCKET_OPTIONS,
  TLS_OPTIONS,
  VIA_OPTIONS,
} from "../src/base/option_table.ts";
import {
  FORWARDER_OPTIONS,
  STATUS_OPTIONS,
  WATCH_OPTIONS,
} from "../src/base/subpath_option_table.ts";
import { type OptionSpec, type OptionTable, resolveOptions } from "../src/base/options.ts";
import { serveStatus } from "../src/observe/http.ts";
import { Forwarder } from "../src/postgres/forwarder.ts";
import { postgresInspector, postgresQueue } from "../src/postgres/postgres.ts";
import { QueueInspector } from "../src/queue/inspect/inspector.ts";
import { boundsOf } from "../src/queue/inspect/pages.ts";
import { checkEnqueueOptions, checkRequeueOptions } from "../src/queue/options.ts";
import { OutboundQueue } from "../src/queue/queue.ts";
import { Relay } from "../src/relay/relay.ts";
import { Ending } from "../src/sender/ending.ts";
import { limitsOf, type SenderOptions } from "../src/sender/options.ts";
import { Sender } from "../src/sender/sender.ts";
import { spoolQueue } from "../src/spool/spool.ts";
import { setSocketOptions, watch } from "../src/tcp/tcp.ts";
import { TempDir } from "./support/temp_dir.ts";

/** An interface, its table, and the fields that are no plain values. */
const INTERFACES: readonly [path: string, name: string, OptionTable, others: string][] = [
  ["queue/options", "QueueOptions", QUEUE_OPTIONS, "driver clock"],
  [
    "sender/options",
    "SenderOptions",
    { ...DELIVERY_OPTIONS, ...PACE_OPTIONS },
    "queue queueOptions remote via socket tls libc libssl logger clock random dialer session transform confirm " +
    "closesQueue signal",
  ],
  ["session/session", "Session", SESSION_OPTIONS, "open heartbeat close"],
  ["session/session", "Heartbeat", HEARTBEAT_OPTIONS, "send expect"],
  [
    "session/answers",
    "AnswerConfirmation",
    ANSWER_OPTIONS,
    "framing accepted refused judge keyOf",
  ],
  ["sender/sender", "CloseOptions", CLOSE_OPTIONS, ""],
  ["kernel/socket_options", "SocketOptions", SOCKET_OPTIONS, "keepAlive"],
  ["kernel/socket_options", "KeepAliveOptions", KEEP_ALIVE_OPTIONS, ""],
  ["tls/options", "TlsOptions", TLS_OPTIONS, ""],
  ["base/via", "ViaOptions", VIA_OPTIONS, ""],
  [
    "relay/options",
    "RelayOptions",
    RELAY_OPTIONS,
    "sender listeners input output maxPacketBytes maxUnfinishedBytes oversize logger clock",
  ],
  [
    "observe/status_server",
    "StatusServerOptions",
    STATUS_OPTIONS,
    "hostname port token showPayloads logger clock",
  ],
  [
    "postgres/forwarder_options",
    "ForwarderOptions",
    FORWARDER_OPTIONS,
    "url durability queueOptions logger clock random",
  ],
  ["postgres/forwarder", "ForwarderCloseOptions", CLOSE_OPTIONS, ""],
  ["tcp/watch", "WatchOptions", WATCH_OPTIONS, ""],
];

/** For what looks at its options first. */
const NO_CONN = { localAddress: undefined };

/** The names of an interface's fields. */
function allOf(name: string): string {
  const [, , table, others] = INTERFACES.find(([, known]) => known === name) ?? assert.fail(name);
  return `${Object.keys(table).join(" ")} ${others}`;
}

/** The fields of an interface with their docstrings, from its source. */
function fieldsOf(path: string, name: string): Map<string, string> {
  const source = Deno.readTextFileSync(new URL(`../src/${path}.ts`, import.meta.url));
  const [, body = ""] =
    new RegExp(`\nexport interface ${name}\\b[^{]*{\n([^]*?)\n}\n`).exec(source) ?? [];
  return new Map(
    [...body.matchAll(/\/\*\*([^]*?)\*\/\s*readonly (\w+)\??:/g)]
      .map(([, text = "", field = ""]) => [field, text.replaceAll(/\s*\n\s*\* ?/g, " ")]),
  );
}

for (const [path, name, table, others] of INTERFACES) {
  Deno.test(`${name} has the options of the table, and says their defaults and bounds`, () => {
    const fields = fieldsOf(path, name);
    const expected = [...Object.keys(table), ...others.split(" ").filter(Boolean)];
    assert.deepEqual([...fields.keys()].toSorted(), expected.toSorted());
    for (const [option, spec] of Object.entries(table)) {
      const text = fields.get(option) ?? "";
      const [, written] = /@default \{([^}]*)\}/.exec(text) ?? [];
      const said = written === undefined ? undefined : valueOf(written);
      assert.equal(said, spec.default, `@default of ${option}`);
      if (!("min" in spec)) continue;
      const [, least, most] = /\b([\d,]+)(?: \([^)]*\))? to ([\d,]+)/.exec(text) ?? [];
      if (least === undefined || most === undefined) continue;
      const bounds = [least, most].map((figure) => Number(figure.replaceAll(",", "")));
      assert.deepEqual(bounds, [spec.min, spec.max], `the bounds of ${option}`);
    }
  });
}

function valueOf(text: string): unknown {
  return text === "Infinity" ? Infinity : JSON.parse(text.replaceAll(/(?<=\d)_/g, ""));
}

Deno.test("docs/OPTIONS.md, docs/options.schema.json and the framings are those of the tables", () => {
  const docs = (name: string) => Deno.readTextFileSync(new URL(`../docs/${name}`, import.meta.url));
  const advice = "run deno task docs:options";
  assert.equal(docs("OPTIONS.md"), optionsPage(), advice);
  assert.equal(docs("options.schema.json"), optionsSchemaText(), advice);
  assert.equal(docs("route.schema.json"), routeSchemaText(), advice);
  assert.match(docs("PROTOCOLS.md"), /^\| `lines` /m);
  assert.equal(docs("PROTOCOLS.md"), protocolsPage(docs("PROTOCOLS.md")), advice);
});

type Taker = readonly [name: string, take: (options: never) => unknown, known: string];

/** What takes options, and all that it has. */
const TAKERS: readonly Taker[] = [
  ["QueueOptions", (options) => OutboundQueue.open("q.db", options), allOf("QueueOptions")],
  [
    "SenderOptions",
    (options) => Sender.open("q.db", "tcp://127.0.0.1:1", options),
    allOf("SenderOptions"),
  ],
  [
    "queueOptions",
    (queueOptions) => Sender.open("q.db", "tcp://127.0.0.1:1", { queueOptions }),
    allOf("QueueOptions"),
  ],
  ["spoolQueue", (options) => spoolQueue("s.db", "n", options), allOf("QueueOptions")],
  ["CloseOptions", (options) => ending().close(options), allOf("CloseOptions")],
  ["SocketOptions", (options) => setSocketOptions(NO_CONN, options), allOf("SocketOptions")],
  ["WatchOptions", (options) => watch(NO_CONN, options), allOf("WatchOptions")],
  ["RelayOptions", (options) => new Relay(options), allOf("RelayOptions")],
  ["RelayStopOptions", (options) => Relay.prototype.stop(options), "storeTimeoutMs"],
  ["StatusServerOptions", (options) => serveStatus({}, options), allOf("StatusServerOptions")],
  [
    "ForwarderOptions",
    (options) => Forwarder.open("q.db", options),
    `${allOf("ForwarderOptions")} name password answerTimeoutMs`,
  ],
  [
    "PostgresQueueOptions",
    (options) => postgresQueue(options),
    `${allOf("QueueOptions").replace(/durability|syncIn|driver/g, "")} url name password ` +
    "durability weaker leaseTtlMs standBy answerTimeoutMs holder logger onStandBy",
  ],
  [
    "PostgresInspectOptions",
    (options) => postgresInspector(options),
    "url name password answerTimeoutMs busyTimeoutMs clock",
  ],
  [
    "InspectOptions",
    (options) => QueueInspector.open("q.db", options),
    "driver busyTimeoutMs clock",
  ],
  ["InspectQuery", boundsOf, "fromId toId beforeMs payloadBytes"],
  ["EnqueueOptions", checkEnqueueOptions, "signal ttlMs"],
  ["RequeueOptions", checkRequeueOptions, "ttlMs"],
];

for (const [name, take, known] of TAKERS) {
  Deno.test(`an option that does not exist is refused: ${name}`, async () => {
    const words = async (options: object) => {
      const error = await Promise.resolve().then(() => take(options as never)).then(
        () => assert.fail("it was taken"),
        (error) => error,
      );
      assert.ok(error instanceof OptionError, String(error));
      return error.message;
    };
    const names = known.split(" ").filter(Boolean);
    const [, said = ""] = /^secretWord is none of (.*)$/.exec(await words({ secretWord: 1 })) ?? [];
    assert.deepEqual(said.split(", ").toSorted(), names.toSorted());
    const [first = ""] = names;
    assert.equal(
      await words({ [`${first}s`]: "s3cret" }),
      `${first}s is no option (is ${first} meant?)`,
    );
  });
}

Deno.test("an option that is another object's is told where it belongs", () => {
  const base = { queue: "q.db", remote: "tcp://127.0.0.1:1" };
  const wrong = (options: object) => () => limitsOf({ ...base, ...options });
  assert.throws(wrong({ maxBytes: 1 }), { message: "maxBytes belongs into queueOptions" });
  assert.throws(wrong({ idleMs: 1, holdMs: 1, $schema: "x" }), { option: "idleMs" });
  assert.doesNotThrow(wrong({ holdMs: 1, $schema: "docs/options.schema.json" }));
  assert.throws(wrong({ noDelay: true }), { message: "noDelay belongs into socket" });
});

Deno.test("enqueue and requeue look at their options", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.file("q.db"));
  const wrong = { ttl: 1 } as object;
  const refused = { name: "OptionError", message: "ttl is no option (is ttlMs meant?)" };
  await assert.rejects(queue.enqueue("a", wrong), refused);
  await assert.rejects(queue.enqueueMany(["a"], wrong), refused);
  await assert.rejects(queue.requeue({ firstId: 1, lastId: 1 }, wrong), refused);
  assert.equal(queue.lastId, 0);
});

function ending(): Ending {
  return new Ending({
    running: Promise.resolve(),
    stop: () => {},
    held: new AsyncDisposableStack(),
  });
}

/** Values in JSON that an option may or may not take: its bounds and what is around them. */
function valuesFor(spec: OptionSpec): fc.Arbitrary<unknown> {
  const common = [null, true, false, 0, 1, -1, 1.5, "", "x", "a b", "a/b", "x".repeat(16), [], {}];
  const around = "min" in spec
    ? [spec.min, spec.max].flatMap((
      bound,
    ) => [bound - 1, bound - 0.5, bound, bound + 0.5, bound + 4])
    : "choices" in spec
    ? spec.choices
    : ["eth0", "x".repeat(15)];
  return fc.constantFrom(...common, ...around);
}

function objectsFor(table: OptionTable): fc.Arbitrary<Record<string, unknown>> {
  const values = Object.entries(table).map(([name, spec]) => [name, valuesFor(spec)] as const);
  // One or two at a time: with more, hardly an object would be sound.
  return fc.subarray(values, { minLength: 1, maxLength: 2 })
    .chain((some) => fc.record(Object.fromEntries(some)));
}

/** Whether the library takes these options. */
function isTaken(table: OptionTable, options: Record<string, unknown>): boolean {
  try {
    resolveOptions(table, options);
    return true;
  } catch (error) {
    assert.ok(error instanceof OptionError, String(error));
    assert.ok(error.option in table && error.message.startsWith(`${error.option} must be `));
    assert.deepEqual(error.value, options[error.option]);
    return false;
  }
}

Deno.test("the schema accepts what the library takes, and nothing else", () => {
  const validate = new Ajv({ strict: true }).compile(optionsSchema());
  const places: readonly [OptionTable, (options: object) => object][] = [
    [{ ...DELIVERY_OPTIONS, ...PACE_OPTIONS }, (options) => options],
    [QUEUE_OPTIONS, (queueOptions) => ({ queueOptions })],
    [SOCKET_OPTIONS, (socket) => ({ socket })],
    [KEEP_ALIVE_OPTIONS, (keepAlive) => ({ socket: { keepAlive } })],
    [SESSION_OPTIONS, (session) => ({ session })],
    [HEARTBEAT_OPTIONS, (heartbeat) => ({ session: { heartbeat: { send: "x", ...heartbeat } } })],
    [ANSWER_OPTIONS, (confirm) => ({ confirm: { framing: "lines", accepted: "OK", ...confirm } })],
    [TLS_OPTIONS, (tls) => ({ tls })],
    [VIA_OPTIONS, (via) => ({ via: { url: "socks5://a:1", ...via } })],
  ];
  let taken = 0, refused = 0;
  for (const [table, placed] of places) {
    fc.assert(
      fc.property(objectsFor(table), (options) => {
        const route = { queue: "q.db", remote: "tcp://127.0.0.1:1", ...placed(options) };
        const accepted = isTaken(table, options);
        assert.equal(validate(route), accepted, JSON.stringify(validate.errors));
        accepted ? taken++ : refused++;
      }),
      { numRuns: 500 },
    );
  }
  assert.ok(taken > 100 && refused > 100, `${taken} taken, ${refused} refused`);
  for (
    const wrong of [
      {},
      { queue: "q.db" },
      { queue: "", remote: "tcp://a:1" },
      { queue: "q.db", remote: "http://a:1" },
      { queue: "q.db", remote: "tcp://a:1", holdMS: 1 },
    ]
  ) {
    assert.equal(validate(wrong), false, JSON.stringify(wrong));
  }
  const sessions = [
    { open: [{ send: "a" }, { expect: "b", refuse: "c" }, { send: "a", expect: "b" }] },
    { open: [], close: "bye", heartbeat: { send: "a", expect: "b" } },
    { open: [{}] },
    { open: [{ send: "a", refuse: "b" }] },
    { open: [{ send: "" }] },
    { open: "a" },
    { heartbeat: { idleMs: 1000 } },
    { close: 7 },
  ];
  for (const session of sessions) {
    const route = { queue: "q.db", remote: "tcp://a:1", session };
    const accepted = validate(route);
    if (accepted) limitsOf(route as SenderOptions);
    else assert.throws(() => limitsOf(route as SenderOptions), OptionError);
  }
  const keepAlive = { queue: "q.db", remote: "tcp://a:1", socket: { keepAlive: false } };
  assert.equal(validate(keepAlive), true);
});

Deno.test("a hold follows the response timeout unless given", () => {
  const base = { queue: "q.db", remote: "tcp://127.0.0.1:1" };
  assert.equal(limitsOf(base).holdMs, 1000);
  assert.equal(limitsOf({ ...base, responseTimeoutMs: 5000 }).holdMs, 6000);
  assert.equal(limitsOf({ ...base, responseTimeoutMs: 5000, holdMs: 9000 }).holdMs, 9000);
});

Deno.test("options for a queue that is open already are refused with words", async () => {
  const path = Deno.makeTempDirSync();
  {
    await using queue = await OutboundQueue.open(`${path}/q.db`);
    await assert.rejects(
      Sender.open({ queue, queueOptions: { maxPackets: 5 }, remote: "tcp://127.0.0.1:1" }),
      { name: "OptionError", option: "queueOptions", message: /is for a queue given as a path/ },
    );
  }
  Deno.removeSync(path, { recursive: true });
});
