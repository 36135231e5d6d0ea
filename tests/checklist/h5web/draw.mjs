// Open a page of H5Web, keep a picture of what it draws, and say its scale:
// chromium, picture, URL.
import { chromium } from "playwright-core";

const [executablePath, picture, url] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox", // it runs as root
    "--use-angle=swiftshader", // WebGL without a graphics card
    "--enable-unsafe-swiftshader",
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
  page.setDefaultTimeout(120_000);
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(error));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  const canvas = page.locator("canvas");
  await canvas.waitFor();
  // What is drawn is complete when two pictures are equal, and not of one colour.
  let before;
  for (let now = await shot(); !(before?.equals(now) && now.length > 4000); now = await shot()) {
    before = now;
  }
  await canvas.screenshot({ path: picture });
  const bound = (name) => page.locator(`#${name}-bound`).getAttribute("title");
  console.log(JSON.stringify([Number(await bound("min")), Number(await bound("max"))]));

  async function shot() {
    await page.waitForTimeout(500);
    return canvas.screenshot();
  }
} finally {
  await browser.close();
}
