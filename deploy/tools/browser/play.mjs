// Opens a watch page in headless Chromium, plays for so many seconds, and prints what happened as JSON.
//
//   node play.mjs URL SECONDS
import puppeteer from "puppeteer-core";

const [, , page_url, seconds] = process.argv;
const wanted = Number(seconds);
const complaints = [];

const browser = await puppeteer.launch({
  executablePath: "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--disable-gpu"],
});
let reached = 0;
let quality = {};
try {
  const page = await browser.newPage();
  page.on("pageerror", error => complaints.push(`page: ${error.message}`));
  page.on("requestfailed", request => {
    // hls.js gives up a request when it changes the rung; that is no failure.
    const why = request.failure()?.errorText ?? "";
    if (why !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${why}`);
  });
  page.on("response", response => {
    const icon = response.url().endsWith("/favicon.ico");
    if (response.status() >= 400 && !icon) complaints.push(`${response.url()}: ${response.status()}`);
  });
  await page.goto(page_url, { waitUntil: "domcontentloaded" });
  await page.evaluate(() => document.getElementById("video").play().catch(() => {}));
  // The film takes its own time to play; beyond twice that and a minute to start, it has stalled.
  const end = Date.now() + (2 * wanted + 60) * 1000;
  while (reached < wanted && Date.now() < end) {
    await new Promise(resolve => setTimeout(resolve, 250));
    const state = await page.evaluate(() => {
      const video = document.getElementById("video");
      const frames = video.getVideoPlaybackQuality();
      return {
        at: video.currentTime,
        error: video.error && video.error.message,
        notice: document.getElementById("notice").textContent,
        frames: frames.totalVideoFrames,
        dropped: frames.droppedVideoFrames,
      };
    });
    reached = state.at;
    quality = { frames: state.frames, dropped: state.dropped, notice: state.notice };
    if (state.error) {
      complaints.push(`video: ${state.error}`);
      break;
    }
  }
  if (reached < wanted) complaints.push(`stopped at ${reached} s: ${quality.notice ?? ""}`);
  if (!(quality.frames > 0)) complaints.push("no frame was shown");
} catch (error) {
  complaints.push(String(error));
} finally {
  await browser.close();
}
console.log(JSON.stringify({ seconds: reached, ...quality, complaints }));
process.exit(complaints.length === 0 ? 0 : 1);
