// The video and what is said of each frame, from one connection: the labels as JSON, then the image that they belong to.

/** Yields { labels, image } of frame after frame until the connection ends, which throws. */
export async function* frames(signal) {
  const answer = await fetch("/frames", { signal });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  let labels = null;
  for await (const { type, body } of parts(answer.body.getReader())) {
    if (type === "application/json") labels = JSON.parse(new TextDecoder().decode(body));
    else yield { labels, image: await createImageBitmap(new Blob([body], { type })) };
  }
}

/** The parts of a multipart body. Each says its length, so that nothing in it is searched for a boundary. */
async function* parts(reader) {
  let held = new Uint8Array();
  const more = async () => {
    const { done, value } = await reader.read();
    if (done) throw new Error("the connection ended");
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
  };
  for (;;) {
    let end;
    while ((end = endOfHead(held)) < 0) await more();
    const head = new TextDecoder().decode(held.subarray(0, end));
    const next = end + Number(/^content-length: (\d+)/im.exec(head)[1]);
    while (held.length < next) await more();
    yield { type: /^content-type: (\S+)/im.exec(head)[1], body: held.slice(end, next) };
    held = held.subarray(next);
  }
}

/** Where the first empty line ends; -1 while there is none. */
function endOfHead(bytes) {
  for (let at = 3; at < bytes.length; at++)
    if (bytes[at] === 10 && bytes[at - 1] === 13 && bytes[at - 2] === 10 && bytes[at - 3] === 13) return at + 1;
  return -1;
}
