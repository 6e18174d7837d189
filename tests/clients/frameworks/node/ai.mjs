// Vercel's AI SDK over both dialects. Usage: node ai.mjs URL
import assert from 'node:assert/strict'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany, generateObject, generateText, isStepCount, stepCountIs, streamText, tool } from 'ai'
import { createOllama } from 'ai-sdk-ollama'
import { z } from 'zod'

const url = process.argv[2]
const HELLO = 'Hello! I am a small model, and I say the same to everybody.'
const THOUGHT = 'The user greets me, so I greet back.'
const REPORT = 'It is 21 degrees and sunny.'
const openai = createOpenAICompatible({
  name: 'outrider', baseURL: `${url}/v1`, includeUsage: true, supportsStructuredOutputs: true
})
const ollama = createOllama({ baseURL: url })
const stopAt = isStepCount ?? stepCountIs

for (const [dialect, model] of [['openai', openai], ['ollama', ollama]]) {
  const whole = await generateText({ model: model('talker'), prompt: 'Hi!' })
  assert.equal(whole.text, HELLO, dialect)
  assert.equal(whole.finishReason, 'stop', dialect)

  const stream = streamText({ model: model('talker'), prompt: 'Hi!' })
  let text = ''
  for await (const part of stream.textStream) text += part
  assert.equal(text, HELLO, dialect)
  assert.ok((await stream.usage).outputTokens > 0, dialect)

  const asked = []
  const weather = tool({
    description: 'The weather of a city',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { asked.push(city); return '21 degrees' }
  })
  const prompt = 'How is the weather in Paris?'
  const told = await generateText({
    model: model('caller'), prompt, tools: { get_weather: weather }, stopWhen: stopAt(3)
  })
  assert.deepEqual(asked, ['Paris'], dialect)
  assert.equal(told.text.trim(), REPORT, dialect)

  asked.length = 0
  const steps = streamText({
    model: model('caller'), prompt, tools: { get_weather: weather }, stopWhen: stopAt(3)
  })
  let streamed = ''
  for await (const part of steps.textStream) streamed += part
  assert.deepEqual(asked, ['Paris'], dialect)
  assert.equal(streamed.trim(), REPORT, dialect)

  const thinking = dialect === 'ollama' ? model('thinker', { think: true }) : model('thinker')
  const thought = await generateText({ model: thinking, prompt: 'Hi!' })
  assert.equal(thought.reasoningText?.trim(), THOUGHT, dialect)
  assert.equal(thought.text, HELLO, dialect)

  const schema = z.object({ color: z.enum(['red', 'blue']) })
  const { object } = await generateObject({ model: model('tiny'), schema, prompt: 'A color?' })
  assert.ok(['red', 'blue'].includes(object.color), dialect)

  const { embeddings } = await embedMany({ model: dialect === 'ollama'
    ? ollama.embeddingModel('bert') : openai.embeddingModel('bert'), values: ['a', 'b'] })
  assert.equal(embeddings.length, 2, dialect)
  await assert.rejects(
    generateText({ model: model('missing'), prompt: 'Hi!', maxRetries: 0 }), /not found/, dialect
  )
}
console.log('ok')
