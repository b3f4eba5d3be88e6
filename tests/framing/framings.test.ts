/**
 * Every framing against a model that is written plainly and looks at the whole
 * stream at once: each packet's end is searched from its beginning.
 */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { OptionError } from "../../src/base/errors.ts";
import { framePacket } from "../../src/framing/frame_packet.ts";
import { FramingError } from "../../src/framing/errors.ts";
import type { Framing, FramingDescription } from "../../src/framing/framing.ts";
import { codecOf } from "../../src/framing/grammar.ts";
import { type Oversize, PacketSplitter } from "../../src/framing/splitter.ts";
import { bytes } from "../support/bytes.ts";

/** A packet that a model has found, or that there is none yet, or why there never will be. */
type Found =
  | { readonly length: number; readonly payload: number[] }
  | "more"
  | "malformed"
  | "too-large";

/** What finds the first packet in some bytes. */
type Model = (data: readonly number[]) => Found;

function indexOf(data: readonly number[], wanted: readonly number[], from: number): number {
  for (let at = from; at + wanted.length <= data.length; at++) {
    if (wanted.every((byte, i) => data[at + i] === byte)) return at;
  }
  return -1;
}

function delimited(...delimiter: number[]): Model {
  return (data) => {
    const at = indexOf(data, delimiter, 0);
    return at < 0 ? "more" : { length: at + delimiter.length, payload: data.slice(0, at) };
  };
}

const counted: Model = (data) => {
  const text = String.fromCharCode(...data.slice(0, 12));
  const [head, digits] = /^([1-9]\d{0,9}) /.exec(text) ?? [];
  if (head === undefined) return /^(?:[1-9]\d{0,9})?$/.test(text) ? "more" : "malformed";
  const length = head.length + Number(digits);
  return data.length < length ? "more" : { length, payload: data.slice(head.length, length) };
};

const syslog: Model = (data) => {
  const found = counted(data);
  return found === "malformed" ? delimited(10)(data) : found;
};

function framed(start: number[], end: number[]): Model {
  return (data) => {
    const wrong = start.some((byte, i) => i < data.length && data[i] !== byte);
    if (wrong) return "malformed";
    const at = indexOf(data, end, start.length);
    return at < 0 ? "more" : { length: at + end.length, payload: data.slice(start.length, at) };
  };
}

function escaped(start: number[], end: number[], escape: number, xor: number): Model {
  return (data) => {
    if (start.some((byte, i) => i < data.length && data[i] !== byte)) return "malformed";
    const payload: number[] = [];
    for (let at = start.length; at < data.length; at++) {
      // What follows an escape byte is no end, but where the end itself begins with one.
      if (indexOf(data, end, at) === at) return { length: at + end.length, payload };
      if (data[at] === escape) {
        if (at + 1 === data.length) return "more";
        at++;
        payload.push((data[at] ?? 0) ^ xor);
      } else payload.push(data[at] ?? 0);
    }
    return "more";
  };
}

interface Lengths {
  readonly bytes: number;
  readonly le?: boolean;
  readonly offset?: number;
  readonly adjust?: number;
  readonly header?: number[];
  readonly trailer?: number[];
}

function lengths({ bytes, le, adjust = 0, header = [], trailer = [], ...rest }: Lengths): Model {
  const { offset = header.length } = rest;
  return (data) => {
    if (header.some((byte, i) => i < data.length && data[i] !== byte)) return "malformed";
    const start = offset + bytes;
    if (data.length < start) return "more";
    const field = data.slice(offset, start);
    const length = (le ? field.reverse() : field).reduce((sum, byte) => 256 * sum + byte, 0);
    const total = start + length + adjust;
    if (length + adjust < trailer.length) return "malformed";
    if (length > Number.MAX_SAFE_INTEGER) return "too-large";
    const wrong = trailer.some((byte, i) => {
      const at = total - trailer.length + i;
      return at < data.length && data[at] !== byte;
    });
    if (wrong) return "malformed";
    if (data.length < total) return "more";
    const body = data.slice(start, total - trailer.length);
    return { length: total, payload: [...data.slice(header.length, offset), ...body] };
  };
}

function fixed(length: number): Model {
  return (data) => data.length < length ? "more" : { length, payload: data.slice(0, length) };
}

const short = lengths({ bytes: 1, adjust: 2, header: [0x78, 0x78], trailer: [13, 10] });
const long = lengths({ bytes: 2, adjust: 2, header: [0x79, 0x79], trailer: [13, 10] });

/** Each framing, its model, and bytes that are met often in it. */
const MODELS: readonly (readonly [Framing, Model, number[]])[] = [
  ["lines", delimited(10), [10]],
  ["gelf", delimited(0), [0]],
  ["delimiter:0d0a", delimited(13, 10), [13, 10]],
  ["delimiter:7c7c", delimited(0x7c, 0x7c), [0x7c]],
  [{ kind: "delimiter", delimiter: bytes("abab") }, delimited(97, 98, 97, 98), [97, 98]],
  ["octet-counting", counted, [48, 49, 50, 32, 60]],
  ["syslog", syslog, [10, 48, 49, 50, 32, 60]],
  ["mllp", framed([11], [0x1c, 13]), [11, 0x1c, 13]],
  ["frame:02/03", framed([2], [3]), [2, 3]],
  ["frame:0203/030302", framed([2, 3], [3, 3, 2]), [2, 3]],
  ["frame:02/03,escape=10", escaped([2], [3], 16, 0), [2, 3, 16]],
  ["frame:7e/7e,escape=7d,xor=20", escaped([0x7e], [0x7e], 0x7d, 0x20), [0x7e, 0x7d, 0x5e]],
  ["frame:1002/1003,escape=10", escaped([16, 2], [16, 3], 16, 0), [16, 2, 3]],
  ["frame:02/0304,escape=10", escaped([2], [3, 4], 16, 0), [2, 3, 4, 16]],
  ["length16", lengths({ bytes: 2 }), [0, 1, 2]],
  ["length32", lengths({ bytes: 4 }), [0, 0, 0, 1, 2]],
  ["length:1", lengths({ bytes: 1 }), [0, 1, 2]],
  ["length:8,le", lengths({ bytes: 8, le: true }), [0, 0, 0, 0, 0, 0, 1]],
  ["length:2,le,offset=2", lengths({ bytes: 2, le: true, offset: 2 }), [0, 0, 1, 2]],
  ["length:1,trailer=ffff,adjust=3", lengths({ bytes: 1, adjust: 3, trailer: [255, 255] }), [
    ...[0, 1, 255, 255],
  ]],
  [
    "length:1,offset=3,adjust=-4,header=aa",
    lengths({ bytes: 1, offset: 3, adjust: -4, header: [0xaa] }),
    [0xaa, 4, 5, 6],
  ],
  ["modbus-tcp", lengths({ bytes: 2, offset: 4 }), [0, 0, 1, 2]],
  ["fixed:3", fixed(3), [0, 1, 2]],
  ["smpp", lengths({ bytes: 4, adjust: -4 }), [0, 0, 0, 4, 5, 16]],
  ["gt06", (data) => {
    const found = short(data);
    return found === "malformed" && !(data[0] === 0x78) ? long(data) : found;
  }, [0x78, 0x78, 0x79, 0x79, 0, 1, 2, 13, 10]],
];

const nameOf = (framing: Framing) =>
  typeof framing === "string" ? framing : JSON.stringify(framing);

interface Outcome {
  readonly packets: number[][];
  readonly fault: string | undefined;
  readonly unfinished: number;
}

interface Options {
  readonly input: Framing;
  readonly output?: Framing;
  readonly maxPacketBytes?: number;
  readonly oversize?: Oversize;
}

/** What a splitter makes of chunks, without the end of the input. */
function split(options: Options, chunks: readonly Uint8Array[]): Outcome {
  const splitter = new PacketSplitter({ maxPacketBytes: Number.MAX_SAFE_INTEGER, ...options });
  const packets: number[][] = [];
  for (const chunk of chunks) {
    const buffer = new Uint8Array(chunk);
    packets.push(...splitter.push(buffer).map((packet) => [...packet]));
    buffer.fill(0xee); // The caller's buffer is its own again.
    if (splitter.fault !== undefined) break;
  }
  return { packets, fault: splitter.fault?.reason, unfinished: splitter.unfinishedBytes };
}

/** The same by a model, for packets that go out as they came. */
function modelled(model: Model, data: readonly number[]): Outcome & { payloads: number[][] } {
  const packets: number[][] = [];
  const payloads: number[][] = [];
  for (let rest = data;; rest = rest.slice(packets.at(-1)?.length)) {
    const found = rest.length === 0 ? "more" : model(rest);
    if (typeof found === "string") {
      const fault = found === "more" ? undefined : found;
      return { packets, payloads, fault, unfinished: rest.length };
    }
    packets.push(rest.slice(0, found.length));
    payloads.push(found.payload);
  }
}

function cutAt(input: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (input.length + 1)))].sort((a, b) => a - b);
  return [...places, input.length].map((end, i) =>
    input.subarray(i === 0 ? 0 : places[i - 1], end)
  );
}

const cutPlaces = fc.array(fc.nat(1000), { maxLength: 12 });

/** Garbage that often looks like the framing. */
function streamOf(often: readonly number[]): fc.Arbitrary<Uint8Array> {
  return fc.array(
    fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...often) }, fc.integer({ max: 255, min: 0 })),
    { maxLength: 80 },
  ).map((list) => new Uint8Array(list));
}

/** Packets, and now and then something else. */
function mostlyPackets(framing: Framing, often: readonly number[]): fc.Arbitrary<Uint8Array> {
  const packets = streamOf(often).map((data) => data.subarray(0, 20))
    .filter((payload) => isCarried(payload, framing))
    .map((payload) => framePacket(payload, framing));
  return fc.array(
    fc.oneof({ weight: 5, arbitrary: packets }, { weight: 1, arbitrary: streamOf(often) }),
    { maxLength: 8 },
  ).map((parts) => new Uint8Array(parts.flatMap((part) => [...part])));
}

for (const [input, model, often] of MODELS) {
  Deno.test(`framing ${nameOf(input)}: any stream, cut anywhere, is what the model finds`, () => {
    let found = 0;
    fc.assert(
      fc.property(mostlyPackets(input, often), cutPlaces, (data, cuts) => {
        const expected = modelled(model, [...data]);
        found += expected.packets.length;
        for (const chunks of [[data], cutAt(data, cuts), cutAt(data, [...data.keys()])]) {
          const { packets, fault, unfinished } = split({ input }, chunks);
          if (input !== "syslog") assert.deepEqual(packets, expected.packets);
          else assert.deepEqual(packets, expected.payloads.filter((p) => p.length > 0).map(count));
          assert.equal(fault, expected.fault);
          if (fault === undefined) assert.equal(unfinished, expected.unfinished);
        }
      }),
      { numRuns: 300 },
    );
    assert.ok(found > 300, `only ${found} packets were in all of it`);
  });
}

/** A message as syslog goes out: with its octet count. */
function count(payload: readonly number[]): number[] {
  return [...bytes(`${payload.length} `), ...payload];
}

/** What a framing can carry: told from what it refuses. */
function isCarried(payload: Uint8Array, framing: Framing): boolean {
  try {
    framePacket(payload, framing);
    return true;
  } catch (error) {
    assert(error instanceof FramingError);
    return false;
  }
}

const payloadsOf = (often: readonly number[]) =>
  fc.array(streamOf(often).map((data) => data.subarray(0, 40)), { maxLength: 8 });

Deno.test("framings: each payload survives each input and output, cut anywhere", () => {
  let carried = 0;
  for (const [input, , oftenIn] of MODELS) {
    for (const [output, model, oftenOut] of MODELS) {
      fc.assert(
        fc.property(payloadsOf([...oftenIn, ...oftenOut]), cutPlaces, (all, cuts) => {
          const payloads = all.filter((payload) =>
            isCarried(payload, input) && isCarried(payload, output)
          );
          carried += payloads.length;
          const stream = new Uint8Array(payloads.flatMap((p) => [...framePacket(p, input)]));
          const { packets, fault, unfinished } = split({ input, output }, cutAt(stream, cuts));
          assert.deepEqual([fault, unfinished], [undefined, 0]);
          assert.deepEqual(packets, payloads.map((p) => [...framePacket(p, output)]));
          // And whoever reads them gets the payloads.
          const read = modelled(model, packets.flat());
          assert.deepEqual(read.payloads, payloads.map((payload) => [...payload]));
          assert.equal(read.unfinished, 0);
        }),
        { numRuns: 8 },
      );
    }
  }
  assert.ok(carried > 5000, `only ${carried} payloads were carried`);
});

/** Few values of bytes, so that marks, escape bytes and payloads often meet. */
const few = (minLength: number, maxLength: number) =>
  fc.array(fc.integer({ min: 0, max: 4 }), { minLength, maxLength }).map((a) => new Uint8Array(a));

const described: fc.Arbitrary<FramingDescription> = fc.oneof(
  fc.record({ kind: fc.constant("delimiter"), delimiter: few(1, 4) }),
  fc.record(
    {
      ...{ kind: fc.constant("frame"), start: few(1, 3), end: few(1, 3) },
      ...{ escape: few(1, 1), xor: few(1, 1) },
    },
    { requiredKeys: ["kind", "start", "end"] },
  ),
  fc.record(
    {
      ...{ kind: fc.constant("length"), bytes: fc.constantFrom(1, 2, 4, 8) },
      ...{ littleEndian: fc.boolean(), offset: fc.nat(6), adjust: fc.integer({ min: -9, max: 9 }) },
      ...{ header: few(1, 3), trailer: few(1, 3) },
    },
    { requiredKeys: ["kind", "bytes"] },
  ),
);

Deno.test("framings: whatever is described and taken carries what it does not refuse", () => {
  let taken = 0, carried = 0;
  fc.assert(
    fc.property(
      described,
      described,
      fc.array(few(0, 12), { maxLength: 6 }),
      cutPlaces,
      (input, output, all, cuts) => {
        try {
          codecOf(input, "input");
          codecOf(output, "output");
        } catch (error) {
          assert(error instanceof OptionError, String(error));
          return;
        }
        taken++;
        const payloads = all.filter((payload) =>
          isCarried(payload, input) && isCarried(payload, output)
        );
        carried += payloads.length;
        const onWire = (framing: Framing) => payloads.map((p) => [...framePacket(p, framing)]);
        const stream = (framing: Framing) => new Uint8Array(onWire(framing).flat());
        for (const [from, to] of [[input, output], [output, input], [input, input]] as const) {
          const { packets, fault } = split(
            { input: from, output: to },
            cutAt(stream(from), cuts),
          );
          assert.equal(fault, undefined);
          assert.deepEqual(packets, onWire(to));
        }
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(taken > 1000 && carried > 2000, `${taken} were taken, ${carried} payloads carried`);
});

Deno.test("framings: garbage throws nothing but a FramingError, and memory is bounded", () => {
  const framings = MODELS.map(([framing]) => framing);
  fc.assert(
    fc.property(
      fc.constantFrom(...MODELS),
      fc.constantFrom<Framing>(...framings, "chunks"),
      fc.constantFrom<Oversize>("fail", "skip", "cut"),
      fc.integer({ min: 12, max: 40 }),
      fc.nat(1000),
      cutPlaces,
      fc.infiniteStream(fc.nat(255)),
      ([input, , often], output, oversize, maxPacketBytes, seed, cuts, random) => {
        const [stream] = fc.sample(mostlyPackets(input, often), { numRuns: 1, seed });
        const data = new Uint8Array([...stream ?? [], ...[...random.take(40)]]);
        const outcomes = [[data], cutAt(data, cuts), cutAt(data, [...data.keys()])].map(
          (chunks) => {
            const splitter = new PacketSplitter({ input, output, oversize, maxPacketBytes });
            const packets: number[][] = [];
            try {
              for (const chunk of chunks) {
                for (const packet of splitter.push(chunk)) {
                  assert.ok(packet.length <= maxPacketBytes, `a packet of ${packet.length} bytes`);
                  packets.push([...packet]);
                }
                // Escape bytes may double what a packet has in the input; a head has 12.
                const most = 12 + maxPacketBytes * (nameOf(input).includes("escape") ? 2 : 1);
                assert.ok(splitter.unfinishedBytes <= most, `${splitter.unfinishedBytes} bytes`);
                if (splitter.fault !== undefined) throw splitter.fault;
              }
              packets.push(...splitter.end().map((packet) => [...packet]));
              return { packets, fault: undefined };
            } catch (error) {
              assert(error instanceof FramingError, String(error));
              return { packets, fault: [error.reason, error.offset] };
            }
          },
        );
        assert.deepEqual(outcomes[1], outcomes[0]);
        assert.deepEqual(outcomes[2], outcomes[0]);
      },
    ),
    { numRuns: 4000 },
  );
});

Deno.test("framings: what is too large costs itself alone, and what is cut is whole again", () => {
  for (const [framing, model, often] of MODELS) {
    for (
      const output of [framing, "length32", "frame:02/03,escape=10", "delimiter:7c7c"] as const
    ) {
      const outModel = MODELS.find(([other]) => other === output)?.[1] ?? model;
      fc.assert(
        fc.property(
          fc.constantFrom<Oversize>("skip", "cut"),
          payloadsOf([...often, 0x7c, 2, 3, 16]),
          cutPlaces,
          fc.integer({ min: 24, max: 32 }),
          (oversize, all, cuts, maxPacketBytes) => {
            const payloads = all.filter((payload) =>
              isCarried(payload, framing) && isCarried(payload, output)
            );
            const wire = new Uint8Array(payloads.flatMap((p) => [...framePacket(p, framing)]));
            const options = { input: framing, output, oversize, maxPacketBytes };
            const { packets, fault } = split(options, cutAt(wire, cuts));
            assert.equal(fault, undefined);
            const read = modelled(outModel, packets.flat());
            assert.deepEqual([read.fault, read.unfinished], [undefined, 0]);
            let at = 0;
            for (const payload of payloads) {
              const fits = framePacket(payload, output).length <= maxPacketBytes;
              const got = read.payloads[at];
              if (fits) {
                assert.deepEqual(got, [...payload]);
                at++;
              } else if (oversize === "cut") {
                // Last bytes that begin an end, or an escape byte alone, are left out as well.
                assert.ok(got !== undefined && got.length < payload.length);
                assert.deepEqual(got, [...payload.subarray(0, got.length)]);
                const more = payload.subarray(0, got.length + 5);
                const isMost = framePacket(more, output).length > maxPacketBytes - 2;
                assert.ok(isMost, `${got.length} of ${payload.length} bytes were kept`);
                at++;
              }
            }
            assert.equal(at, read.payloads.length);
          },
        ),
        { numRuns: 150 },
      );
    }
  }
});

Deno.test("framings: what is cut does not end with half an end, nor half an escape", () => {
  const cut = (output: Framing, maxPacketBytes: number, payload: Uint8Array) =>
    split({ input: "length32", output, oversize: "cut", maxPacketBytes }, [
      framePacket(payload, "length32"),
    ]);
  const cases: [Framing, number, Uint8Array, Uint8Array][] = [
    ["delimiter:7c7c", 6, bytes("aaa|bbb"), bytes("aaa||")],
    ["delimiter:61626162", 8, bytes("xxabbbbb"), bytes("xxaabab")],
    ["frame:02/0303", 7, bytes("aaa", [3], "bbb"), bytes([2], "aaa", [3, 3])],
    ["frame:02/03,escape=10", 6, bytes("aaa", [3], "bbb"), bytes([2], "aaa", [3])],
    ["frame:02/03,escape=10", 7, bytes("aaa", [3], "bbb"), bytes([2], "aaa", [16, 3, 3])],
  ];
  for (const [output, maxPacketBytes, payload, wire] of cases) {
    const { packets, fault } = cut(output, maxPacketBytes, payload);
    assert.equal(fault, undefined, String(output));
    assert.deepEqual(packets, [[...wire]], String(output));
  }
});

Deno.test("framings: the end of the input completes what a delimiter ends, and nothing else", () => {
  const ended = (input: Framing, data: Uint8Array, output: Framing = input) => {
    const splitter = new PacketSplitter({ input, output, maxPacketBytes: 1000 });
    const packets = splitter.push(data);
    return [...packets, ...splitter.end()].map((packet) => [...packet]);
  };
  assert.deepEqual(ended("gelf", bytes("a")), [[97, 0]]);
  assert.deepEqual(ended("delimiter:0d0a", bytes("a\r")), [[97, 13, 10]]);
  assert.deepEqual(ended("delimiter:7c7c", bytes("a|")), [[97, 0x7c, 0x7c]]);
  assert.deepEqual(ended("syslog", bytes("1 a<1>b")), [[...bytes("1 a")], [...bytes("4 <1>b")]]);
  assert.deepEqual(ended("syslog", bytes("12"), "lines"), [[...bytes("12\n")]]);
  for (
    const [input, data, words] of [
      ["octet-counting", bytes("5 abc"), /after 5 of 7 bytes\./],
      ["octet-counting", bytes("51"), /after 2 of its octet count and a space\./],
      ["syslog", bytes("5 abc"), /after 5 of 7 bytes\./],
      ["mllp", bytes([11, 65, 0x1c]), /after 3 of those up to its end 1c0d\./],
      ["smpp", bytes([0, 0, 0, 16, 0]), /after 5 of 16 bytes\./],
      ["gt06", bytes([0x78, 0x78]), /after 2 of 3 bytes up to the end of its length field\./],
    ] as const
  ) {
    assert.throws(() => ended(input, data), { name: "FramingError", message: words });
  }
});

Deno.test("framings: what does not fit is said in words that help", () => {
  const refused = (payload: Uint8Array, framing: Framing) => {
    try {
      framePacket(payload, framing);
    } catch (error) {
      assert(error instanceof FramingError);
      return `${error.reason}: ${error.message}`;
    }
    return assert.fail("it was carried");
  };
  assert.match(refused(bytes("a\nb"), "lines"), /^end-inside: .*newline inside.*several lines\./);
  assert.match(refused(bytes("a", [0]), "gelf"), /^end-inside: .*NUL byte inside/);
  assert.match(refused(bytes([0x1c, 13]), "mllp"), /^end-inside: .*1c0d inside.*escape byte/);
  assert.match(refused(bytes("a|"), "delimiter:7c7c"), /^end-inside: .*delimiter 7c7c inside/);
  assert.match(refused(bytes(), "octet-counting"), /^empty: .*may be 0 \(RFC 6587\)/);
  assert.match(refused(bytes([1, 2]), "modbus-tcp"), /^too-short: .*2 bytes, .* needs 4 or more/);
  assert.match(refused(bytes([1, 2]), "fixed:3"), /^too-short: .*2 bytes, .* needs 3\. Choose/);
  assert.match(refused(new Uint8Array(256), "length:1"), /^too-large: .*255 bytes that length:1/);

  const faultOf = (input: Framing, data: Uint8Array) => {
    const splitter = new PacketSplitter({ input, maxPacketBytes: 1000 });
    splitter.push(data);
    return splitter.fault?.message ?? "";
  };
  assert.match(faultOf("octet-counting", bytes("<34>1")), /came "<" \(0x3c\).*input "syslog"/);
  assert.match(faultOf("octet-counting", bytes("5x")), /behind 5 came "x"/);
  assert.match(faultOf("mllp", bytes("MSH|")), /begins with 0b, and 4d came/);
  assert.match(faultOf("gt06", bytes([0x78, 0x79])), /begins with 7878 or 7979, and 7879 came/);
  assert.match(faultOf("gt06", bytes([0x78, 0x78, 1, 5, 13, 13])), /should end with 0d0a/);
  assert.match(faultOf("smpp", bytes([0, 0, 0, 3])), /says 3, and 4 is the least/);
});
