// Reads an answer over connections that break, and loses no token: node examples/resumable_stream.mjs [QUESTION]
// `resumable` needs nothing but fetch, so it works in browsers as it is (the gateway needs --cors-origins for them).

async function* resumable(url, key, body, cutAfter = Infinity) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${key}`, "Idempotency-Key": crypto.randomUUID() };
  for (;;) {
    const connection = new AbortController();
    try {
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal: connection.signal });
      if (!answer.ok) throw new Error(await answer.text());
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "", events = 0, read; !(read = await reader.read()).done; ) {
        const parts = (rest + read.value).split("\n\n");
        rest = parts.pop(); // an event that has not arrived whole
        for (const event of parts) {
          const data = event.match(/^data: (.*)$/m)?.[1];
          if (data === "[DONE]") return;
          if (!data) continue; // a comment: the request still waits
          const chunk = JSON.parse(data);
          if (chunk.error) throw new Error(chunk.error.message);
          yield chunk;
          headers["Last-Event-ID"] = event.match(/^id: (.*)$/m)[1]; // the next connection begins after it
          if (++events === cutAfter) connection.abort();
        }
      }
    } catch (error) {
      if (!(error instanceof TypeError || error.name === "AbortError")) throw error; // TypeError: the connection broke
      console.error(`[${error.message}; going on after ${headers["Last-Event-ID"]}]`);
      await new Promise((again) => setTimeout(again, 100));
    }
  }
}

const { OPENAI_BASE_URL = "http://127.0.0.1:8000/v1", OPENAI_API_KEY = "unused", MODEL = "smollm2-135m-instruct" } = process.env;
const messages = [{ role: "user", content: process.argv[2] ?? "What is the capital of France?" }];
const body = { model: MODEL, messages, stream: true, temperature: 0, max_tokens: 60 };
for await (const chunk of resumable(`${OPENAI_BASE_URL}/chat/completions`, OPENAI_API_KEY, body, 3)) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
}
console.log();
