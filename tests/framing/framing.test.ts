import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { FramingError } from "../../src/framing/errors.ts";
import type { Framing } from "../../src/framing/framing.ts";
import { type Oversize, PacketSplitter } from "../../src/framing/splitter.ts";
import { bytes } from "../support/bytes.ts";

interface Options {
  readonly input: Framing;
  readonly output?: Framing;
  readonly maxPacketBytes?: number;
  readonly oversize?: Oversize;
}

interface Outcome {
  readonly packets: number[][];
  readonly fault: readonly [reason: string, offset: number] | undefined;
}

/** Everything that a splitter makes of an input that arrives in these chunks. */
function split(options: Options, ...chunks: Uint8Array[]): Outcome {
  const splitter = new PacketSplitter({ maxPacketBytes: 1_000_000, ...options });
  const packets: number[][] = [];
  const take = (taken: Uint8Array[]) => packets.push(...taken.map((packet) => [...packet]));
  try {
    for (const chunk of chunks) {
      const buffer = new Uint8Array(chunk);
      take(splitter.push(buffer));
      if (splitter.fault !== undefined) throw splitter.fault;
      buffer.fill(0xEE); // The caller's buffer is its own again.
    }
    take(splitter.end());
    return { packets, fault: undefined };
  } catch (error) {
    assert(error instanceof FramingError);
    return { packets, fault: [error.reason, error.offset] };
  }
}

function expectPackets(options: Options, input: Uint8Array, ...packets: Uint8Array[]): void {
  assert.deepEqual(split(options, input), {
    packets: packets.map((packet) => [...packet]),
    fault: undefined,
  });
}

function faultOf({ fault }: PacketSplitter): Outcome["fault"] {
  return fault && [fault.reason, fault.offset];
}

function messageOf(options: Options, input: Uint8Array): string {
  const splitter = new PacketSplitter({ maxPacketBytes: 1_000_000, ...options });
  splitter.push(input);
  if (splitter.fault !== undefined) return splitter.fault.message;
  try {
    splitter.end();
  } catch (error) {
    assert(error instanceof FramingError);
    return error.message;
  }
  return assert.fail("no fault was found");
}

Deno.test("lines keep their newline, and a carriage return before it", () => {
  const input = bytes("a\r\nb\n\nc\n");
  expectPackets({ input: "lines" }, input, bytes("a\r\n"), bytes("b\n"), bytes("\n"), bytes("c\n"));
  expectPackets({ input: "lines" }, bytes());
});

Deno.test("a last line without a newline is given one", () => {
  expectPackets({ input: "lines" }, bytes("a\nb"), bytes("a\n"), bytes("b\n"));
  expectPackets({ input: "lines" }, bytes("a\r"), bytes("a\r\n"));
});

Deno.test("length-framed packets keep their big-endian length field", () => {
  const long = bytes([1, 2], "x".repeat(258));
  expectPackets({ input: "length16" }, bytes([0, 1], "a", [0, 0], [...long]), ...[
    bytes([0, 1], "a"),
    bytes([0, 0]),
    long,
  ]);
  expectPackets({ input: "length32" }, bytes([0, 0, 0, 1], "\n", [0, 0, 0, 0]), ...[
    bytes([0, 0, 0, 1], "\n"),
    bytes([0, 0, 0, 0]),
  ]);
});

Deno.test("a chunk is a packet; a larger one than may be is cut", () => {
  expectPackets({ input: "chunks" }, bytes("ab"), bytes("ab"));
  expectPackets({ input: "chunks", maxPacketBytes: 2 }, bytes("abcde"), ...[
    bytes("ab"),
    bytes("cd"),
    bytes("e"),
  ]);
  expectPackets({ input: "chunks" }, bytes());
});

Deno.test("packets are put into another framing", () => {
  const two = bytes("a\nbc\r\n");
  expectPackets(
    { input: "lines", output: "length16" },
    two,
    bytes([0, 1], "a"),
    bytes([0, 3], "bc\r"),
  );
  expectPackets({ input: "lines", output: "length32" }, bytes("\n"), bytes([0, 0, 0, 0]));
  expectPackets({ input: "lines", output: "chunks" }, two, bytes("a"), bytes("bc\r"));
  expectPackets({ input: "length16", output: "lines" }, bytes([0, 2], "hi"), bytes("hi\n"));
  expectPackets(
    { input: "length16", output: "length32" },
    bytes([0, 2], "hi"),
    bytes([0, 0, 0, 2], "hi"),
  );
  expectPackets({ input: "length32", output: "chunks" }, bytes([0, 0, 0, 2], "hi"), bytes("hi"));
  expectPackets({ input: "chunks", output: "lines" }, bytes("hi"), bytes("hi\n"));
  expectPackets({ input: "chunks", output: "length16" }, bytes("hi"), bytes([0, 2], "hi"));
});

Deno.test("what cannot be framed as asked is a fault behind the packets before it", () => {
  const newline = bytes([0, 2], "ok", [0, 3], "a\nb", [0, 1], "x");
  assert.deepEqual(split({ input: "length16", output: "lines" }, newline), {
    packets: [[...bytes("ok\n")]],
    fault: ["end-inside", 4],
  });
  assert.deepEqual(split({ input: "lines", output: "chunks" }, bytes("ab\n\nc\n")), {
    packets: [[...bytes("ab")]],
    fault: ["empty", 3],
  });
  const tooLong = bytes([0, 1, 0, 0], "x".repeat(2 ** 16));
  assert.deepEqual(split({ input: "length32", output: "length16" }, tooLong), {
    packets: [],
    fault: ["too-large", 0],
  });
  assert.match(
    messageOf({ input: "length32", output: "length16" }, tooLong),
    /^Input byte 0: this packet's length field says 65536 bytes, which exceeds 65535 bytes that length16 framing can carry\. Choose length32/,
  );
});

Deno.test("a packet above the limit is found as soon as it can be known", () => {
  const limited = { maxPacketBytes: 6 };
  const header = new PacketSplitter({ input: "length32", ...limited });
  assert.equal(header.push(bytes([0, 0, 0, 2], "ok", [0, 0, 0])).length, 1);
  assert.equal(faultOf(header), undefined);
  header.push(bytes([3])); // The last byte of a length field that says 3.
  assert.deepEqual(faultOf(header), ["too-large", 6]);
  assert.throws(() => header.push(bytes("x")), FramingError);
  assert.throws(() => header.end(), FramingError);
  assert.match(
    messageOf({ input: "length32", ...limited }, bytes([0, 0, 0, 2], "ok", [0, 0, 0, 3])),
    /^Input byte 6: .* says 3 bytes, which exceeds maxPacketBytes = 6\. Raise it/,
  );

  const line = new PacketSplitter({ input: "lines", ...limited });
  assert.equal(line.push(bytes("12345\n12345")).length, 1); // With its newline just 6 bytes.
  assert.equal(faultOf(line), undefined);
  line.push(bytes("6"));
  assert.deepEqual(faultOf(line), ["too-large", 6]);

  // The limit is that of the wire, so the output's framing counts and the input's does not.
  assert.deepEqual(split({ input: "lines", output: "length32", ...limited }, bytes("ab\nabc\n")), {
    packets: [[0, 0, 0, 2, 97, 98]],
    fault: ["too-large", 3],
  });
  assert.throws(
    () => new PacketSplitter({ input: "lines", output: "length32", maxPacketBytes: 4 }),
    RangeError,
  );
});

Deno.test("an input that ends inside a packet says how much there was", () => {
  assert.match(
    messageOf({ input: "length16" }, bytes([0, 1], "a", [0, 9], "abc")),
    /^Input byte 3: the input ended inside this packet, after 5 of 11 bytes\./,
  );
  assert.match(
    messageOf({ input: "length32" }, bytes([0, 0])),
    /^Input byte 0: .* after 2 of 4 bytes up to the end of its length field\./,
  );
});

Deno.test("without a change of framing nothing is copied", () => {
  const chunk = bytes("a\nb\n");
  const packets = new PacketSplitter({ input: "lines", maxPacketBytes: 10 }).push(chunk);
  assert.deepEqual(packets.map(({ buffer }) => buffer === chunk.buffer), [true, true]);
});

const framing = fc.constantFrom<Framing>("lines", "length16", "length32", "chunks");
const lengthFraming = fc.constantFrom<"length16" | "length32">("length16", "length32");

/** Cuts `input` at the given places, in any order and as often as they come. */
function cutAt(input: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (input.length + 1)))].sort((a, b) => a - b);
  return [...places, input.length].map((end, i) =>
    input.subarray(i === 0 ? 0 : places[i - 1], end)
  );
}

/** Mostly the bytes that matter, so that frames, newlines and faults are met often. */
const stream = fc.uint8Array({ maxLength: 80 }).map((raw) =>
  raw.map((byte) => byte < 100 ? 0 : byte < 160 ? byte % 7 : byte < 200 ? 10 : byte)
);

Deno.test("property: however a stream is cut, the packets and the fault are the same", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<Framing>("lines", "length16", "length32"),
      framing,
      stream,
      fc.array(fc.nat(1000), { maxLength: 20 }),
      fc.integer({ min: 5, max: 40 }),
      (input, output, data, cuts, maxPacketBytes) => {
        const options = { input, output, maxPacketBytes };
        assert.deepEqual(split(options, ...cutAt(data, cuts)), split(options, data));
        assert.deepEqual(split(options, ...cutAt(data, [...data.keys()])), split(options, data));
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("property: packets without a change of framing are the stream itself", () => {
  fc.assert(
    fc.property(framing, stream, fc.array(fc.nat(1000)), (input, data, cuts) => {
      const { packets, fault } = split({ input }, ...cutAt(data, cuts));
      const end = fault?.[1] ?? data.length;
      const unterminated = input === "lines" && end > 0 && data[end - 1] !== 10;
      assert.deepEqual(packets.flat(), [...data.subarray(0, end), ...(unterminated ? [10] : [])]);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("property: any payloads survive framing, cutting and another framing", () => {
  fc.assert(
    fc.property(
      lengthFraming,
      framing,
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 20 }),
      fc.array(fc.nat(1000)),
      (input, output, raw, cuts) => {
        const payloads = output === "lines" ? raw.map((p) => p.map((b) => b === 10 ? 11 : b)) : raw;
        const frame = (kind: Framing, payload: Uint8Array): number[] => {
          if (kind === "chunks") return [...payload];
          if (kind === "lines") return [...payload, 10];
          const header = kind === "length16" ? [0, payload.length] : [0, 0, 0, payload.length];
          return [...header, ...payload];
        };
        const wire = new Uint8Array(payloads.flatMap((payload) => frame(input, payload)));
        assert.deepEqual(split({ input, output }, ...cutAt(wire, cuts)), {
          packets: payloads.map((payload) => frame(output, payload)),
          fault: undefined,
        });
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("a packet that is too large is left out or shortened, and the next one is whole", () => {
  const limited = { maxPacketBytes: 6 };
  const lines = bytes("ab\nmuch too long\ncd\n");
  const cases: [Options, Uint8Array, Uint8Array[]][] = [
    [{ input: "lines", oversize: "skip" }, lines, [bytes("ab\n"), bytes("cd\n")]],
    [{ input: "lines", oversize: "cut" }, lines, [bytes("ab\n"), bytes("much \n"), bytes("cd\n")]],
    [
      { input: "length32", output: "lines", oversize: "cut" },
      bytes([0, 0, 0, 9], "abcdefghi", [0, 0, 0, 1], "x"),
      [bytes("abcde\n"), bytes("x\n")],
    ],
    [
      { input: "length16", oversize: "cut" },
      bytes([0, 9], "abcdefghi", [0, 1], "x"),
      [bytes([0, 4], "abcd"), bytes([0, 1], "x")],
    ],
    [
      { input: "length16", oversize: "skip" },
      bytes([0, 9], "abcdefghi", [0, 1], "x"),
      [bytes([0, 1], "x")],
    ],
  ];
  for (const [options, input, packets] of cases) {
    expectPackets({ ...limited, ...options }, input, ...packets);
    const splitter = new PacketSplitter({ ...limited, ...options });
    splitter.push(input);
    assert.equal(splitter.oversizePackets, 1);
  }
  const splitter = new PacketSplitter({ input: "lines", ...limited, oversize: "cut" });
  assert.equal(splitter.oversizeWords, undefined);
  splitter.push(lines);
  assert.equal(
    splitter.oversizeWords,
    "the line at input byte 3 was cut to 5 bytes (1 so far)",
  );
});

Deno.test("property: what is too large costs itself alone, however the stream is cut", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<"lines" | "length16" | "length32">("lines", "length16", "length32"),
      fc.constantFrom<"skip" | "cut">("skip", "cut"),
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }),
      fc.array(fc.nat(2000), { maxLength: 20 }),
      fc.integer({ min: 5, max: 40 }),
      (input, oversize, raw, cuts, maxPacketBytes) => {
        const payloads = raw.map((payload) => payload.map((byte) => byte === 10 ? 11 : byte));
        const headerBytes = { lines: 1, length16: 2, length32: 4 }[input];
        const frame = (payload: Uint8Array): number[] => {
          if (input === "lines") return [...payload, 10];
          return [...new Uint8Array(headerBytes - 1), payload.length, ...payload];
        };
        const room = maxPacketBytes - headerBytes;
        const kept = payloads.map((payload) => payload.subarray(0, room))
          .filter((_, i) => oversize === "cut" || (payloads[i]?.length ?? 0) <= room);
        const wire = new Uint8Array(payloads.flatMap(frame));
        const options = { input, oversize, maxPacketBytes };
        const expected = { packets: kept.map(frame), fault: undefined };
        assert.deepEqual(split(options, ...cutAt(wire, cuts)), expected);
        assert.deepEqual(split(options, ...cutAt(wire, [...wire.keys()])), expected);

        // A fault behind it says where it is.
        if (payloads.some(({ length }) => length === 0)) return;
        const splitter = new PacketSplitter({ ...options, output: "chunks" });
        splitter.push(wire);
        splitter.push(input === "lines" ? bytes("\n") : new Uint8Array(headerBytes));
        assert.deepEqual(faultOf(splitter), ["empty", wire.length]);
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("property: reading no more than is missing stops at the end of a packet", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<Framing>("lines", "length16", "length32"),
      stream,
      fc.nat(80),
      (input, data, first) => {
        const splitter = new PacketSplitter({ input, maxPacketBytes: 200 });
        let at = Math.min(first, data.length);
        let packets = splitter.push(data.subarray(0, at)).length;
        const before = packets;
        while (splitter.fault === undefined && splitter.missingBytes > 0 && at < data.length) {
          const to = Math.min(data.length, at + splitter.missingBytes);
          packets += splitter.push(data.subarray(at, to)).length;
          at = to;
        }
        assert(packets - before <= 1);
        if (at < data.length && splitter.fault === undefined) {
          assert.equal(splitter.unfinishedBytes, 0);
        }
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("a stream in another framing is doubted, with a guess", () => {
  const doubtOf = (input: Framing, ...chunks: Uint8Array[]) => {
    const splitter = new PacketSplitter({ input, maxPacketBytes: 2 ** 31 });
    for (const chunk of chunks) splitter.push(chunk);
    return splitter.doubt ?? "";
  };
  const long = (beginning: string | number[]) => bytes(beginning, "x".repeat(61_440));
  assert.match(doubtOf("lines", long("133 <34>1 ")), /^60 KiB and no newline: .*input "syslog"\?$/);
  assert.match(doubtOf("lines", long([97, 0])), /NUL bytes.*"gelf"\?$/);
  assert.match(doubtOf("lines", long([0, 0, 5])), /zero byte.*"length32", or "length16"\?$/);
  assert.match(doubtOf("lines", long([11])), /like HL7.*"mllp"\?$/);
  assert.match(doubtOf("lines", long("x")), /end each packet with a newline\?$/);
  assert.match(doubtOf("syslog", long("<34>x")), /^60 KiB and no newline/);
  assert.match(doubtOf("delimiter:0d0a", long("x")), /^60 KiB and no delimiter 0d0a/);
  assert.match(doubtOf("delimiter:ff", long("x")), /^60 KiB and no delimiter ff/);
  assert.equal(doubtOf("lines", bytes("x".repeat(60_000))), "");
  assert.equal(doubtOf("lines", bytes("x".repeat(70_000), "\n")), "");

  // Where the first bytes give it away, nobody waits for 60 KiB, nor for a packet.
  const syslog =
    /^it begins with "83 <34>1", like syslog with octet counting: is it input "syslog"/;
  assert.match(doubtOf("lines", bytes("83 <34>1 2026-11-26T20:00:00Z host")), syslog);
  assert.match(doubtOf("lines", bytes("83 <34>1 2026\n"), bytes("more\n")), syslog);
  assert.match(doubtOf("lines", bytes('{"short_message":"x"}', [0])), /"gelf"/);
  assert.match(doubtOf("lines", bytes([0x78, 0x78, 0x0d, 1, 0x3f])), /"gt06"/);
  assert.match(doubtOf("delimiter:0d0a", bytes("5 <1>x\r\n")), /"syslog"/);
  assert.equal(doubtOf("gelf", bytes("{}", [0], "{}")), "");
  assert.equal(
    doubtOf("delimiter:ff", bytes([0, 1, 255, 0])),
    "",
    "binary ends mark binary packets",
  );
  assert.equal(doubtOf("lines", bytes("2026-11-26 one\n", [0, 0])), "", "the first one was right");

  assert.match(doubtOf("length16", bytes("one\ntwo\n")), /reads "on" as text.*input "lines"/);
  assert.equal(doubtOf("length16", bytes([0, 200], "one")), "");
  assert.equal(doubtOf("length:1", bytes("one")), "", "a length may be a letter");
  assert.match(
    messageOf({ input: "length32" }, bytes("one\ntwo\n")),
    /says 1869505802 bytes, which exceeds .* is right: the length field reads "one\\n" as text/,
  );
});
