//! A month drawn from a seed.

use sourcing::account::{Account, Deal, Terms};
use sourcing::meter::{BaselineConfig, Baselines, Setup};
use sourcing::tariff::{Dollars, Sheet};
use sourcing::{Price, SourceId};

use crate::Fault;
use crate::film::numbers;

/// The project's own sheet; a month's contract, partner and link come on top.
const SHEET: &str = include_str!("../../../deploy/prices.toml");

/// Slots of a day.
const DAY: usize = 288;
/// Bytes of a slot at one Mbit/s.
const MBPS: f64 = 37_500_000.0;

/// Everything that happens in a month, and what the month before was like.
pub(super) struct Month {
    /// Bytes that are missed in each slot.
    pub(super) demand: Vec<u64>,
    /// The month before.
    pub(super) before: Vec<u64>,
    /// The names of the sources, in the order that a person would write down.
    pub(super) sources: Vec<SourceId>,
    /// For each source, the slots in which it fails.
    pub(super) outages: Vec<Vec<bool>>,
    /// How the sources are paid until the price changes, and from then on.
    pub(super) setups: [Setup; 2],
    /// The slot from which on the second holds.
    pub(super) change: usize,
}

/// Uniform draws, one stream for each question.
struct Dice(Box<dyn Iterator<Item = u64>>);

impl Dice {
    fn new(seed: u64, what: u64) -> Self {
        Self(Box::new(numbers(seed.wrapping_mul(0x9e37_79b9).wrapping_add(what << 32))))
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.0.next().unwrap_or_default() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.unit() < of
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[((self.unit() * all.len() as f64) as usize).min(all.len() - 1)]
    }
}

/// Draws a month of so many slots.
pub(super) fn draw(seed: u64, slots: usize) -> Result<Month, Fault> {
    let mut dice = Dice::new(seed, 1);
    let mean = MBPS * 10_f64.powf(dice.between(2.0, 4.3));
    let peak_hour = dice.between(18.0, 22.0);
    let habit = |what, mean, first_day| demand(&mut Dice::new(seed, what), mean, peak_hour, first_day, slots);
    let before = habit(3, mean, 0);
    let demand = habit(2, mean * dice.between(0.85, 1.15), slots / DAY);
    let volume: f64 = demand.iter().map(|bytes| *bytes as f64).sum();
    let has_link = dice.chance(0.7);
    let region = *dice.one_of(&["us", "sa", "apac", "in"]);
    let mut offers: Vec<(&str, Deal)> = Vec::new();
    let deal = |bytes: Option<String>| Deal { bytes, ..Deal::default() };
    if has_link {
        offers.push(("parent", Deal { transit: Some("sim.transit".to_owned()), ..Deal::default() }));
    }
    if dice.chance(0.5) {
        offers.push(("partner", deal(Some("sim.partner".to_owned()))));
    }
    let s3 = if region == "sa" { "aws.egress.internet.sa_east_1" } else { "aws.egress.internet.us" };
    let gets = Some("aws.s3.req.standard.get".to_owned());
    offers.push(("s3", Deal { requests: gets, ..deal(Some(s3.to_owned())) }));
    let planned = dice.chance(0.6);
    let cdn = if planned { "sim.plan".to_owned() } else { format!("aws.cloudfront.dto.{region}") };
    offers.push(("cdn", deal(Some(cdn))));
    let included = (volume * dice.between(0.1, 0.6) / 1e9) as u64;
    let (transit, partner) = (*dice.one_of(&["0.17", "0.5", "1", "2"]), dice.between(200.0, 1_200.0));
    let later = (partner * dice.between(0.85, 1.15)) as u64;
    let change = (slots as f64 * dice.between(0.2, 0.8)) as usize;
    let setup = |partner| setup(&offers, &extras(region, transit, partner, included));
    let outages = offers.iter().enumerate().map(|(at, (name, _))| outages(seed, at as u64, name, slots));
    Ok(Month {
        demand,
        before,
        outages: outages.collect(),
        setups: [setup(partner as u64)?, setup(later)?],
        sources: setup(partner as u64)?.sources,
        change,
    })
}

/// Evenings, weekends, noise, and up to three premieres; days are counted from the month before.
fn demand(dice: &mut Dice, mean: f64, peak_hour: f64, first_day: usize, slots: usize) -> Vec<u64> {
    let premieres: Vec<(usize, f64)> = (0..dice.between(0.0, 3.99) as usize)
        .map(|_| ((dice.unit() * slots as f64) as usize, dice.between(0.5, 2.5)))
        .collect();
    let slot = |at: usize| {
        let hour = (at % DAY) as f64 / 12.0;
        let curve = 1.0 + 0.8 * ((hour - peak_hour) / 24.0 * std::f64::consts::TAU).cos();
        let weekend = if (first_day + at / DAY) % 7 >= 5 { 1.2 } else { 0.95 };
        let crowd: f64 = premieres
            .iter()
            .filter(|(begin, _)| (*begin..begin + DAY).contains(&at))
            .map(|(begin, size)| size * (-((at - begin) as f64) / 36.0).exp())
            .sum();
        let noise = dice.between(0.9, 1.1);
        (mean * curve * weekend * noise * (1.0 + crowd)) as u64
    };
    (0..slots).map(slot).collect()
}

/// The CDN is the net under it all and does not fail; a partner fails more often than the rest.
fn outages(seed: u64, source: u64, name: &str, slots: usize) -> Vec<bool> {
    let mut dice = Dice::new(seed, 100 + source);
    let mut failing = vec![false; slots];
    let often = match name {
        "cdn" => 0.0,
        "partner" => 6.0,
        _ => 2.0,
    };
    for _ in 0..dice.between(0.0, often) as usize {
        let (begin, len) = ((dice.unit() * slots as f64) as usize, dice.between(1.0, 36.0) as usize);
        failing.iter_mut().skip(begin).take(len).for_each(|fails| *fails = true);
    }
    failing
}

/// Prices of this month's own, in the notation of the sheet.
fn extras(region: &str, transit: &str, partner: u64, included_gb: u64) -> String {
    let provenance = "source = \"the simulator\"\nas_of = \"2026\"\nconfidence = \"assumption\"\n";
    format!(
        "\n[[price]]\nid = \"sim.transit\"\nunit = \"Mbps-p95-month\"\nusd = \"{transit}\"\n{provenance}\
         \n[[price]]\nid = \"sim.partner\"\nunit = \"GB\"\nusd = \"0.{partner:05}\"\n{provenance}\
         \n[[plan]]\nid = \"sim.plan\"\nusd_per_month = \"0\"\nincludes = \"{included_gb} GB\"\n\
         overage = \"aws.cloudfront.dto.{region}\"\n{provenance}"
    )
}

fn setup(offers: &[(&str, Deal)], extras: &str) -> Result<Setup, Fault> {
    let drawing = |problem: String| Fault::new("drawing a month", problem);
    let sheet = Sheet::parse(&format!("{SHEET}{extras}")).map_err(|error| drawing(error.to_string()))?;
    let terms = offers.iter().map(|(name, deal)| {
        let source = name.parse().map_err(|error: sourcing::SourceIdError| drawing(error.to_string()))?;
        Ok(Terms { source, fixed: Price::default(), deal: deal.clone(), partial: false })
    });
    let terms: Vec<Terms> = terms.collect::<Result<_, Fault>>()?;
    let list = |problems: Vec<String>| drawing(problems.join("; "));
    Ok(Setup {
        sources: terms.iter().map(|terms| terms.source.clone()).collect(),
        account: Account::new(&sheet, &terms).map_err(list)?,
        baselines: Baselines::new(&sheet, &BaselineConfig::default()).map_err(list)?,
        sheet: sheet.version().to_owned(),
        nodes: 1,
        usd_per_month: Dollars::ZERO,
    })
}
