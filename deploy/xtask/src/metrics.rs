//! What a program says about itself on `/metrics`, and the few figures the demonstration shows.

use crate::failure::Outcome;
use crate::http;

/// One reading of a `/metrics` page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

/// What CloudFront's list asks for the first 10 TB to viewers in the US or Europe: 0.085 USD per GB, which is
/// 85 picodollars per byte.
pub(crate) const CLOUDFRONT_PICODOLLARS_PER_BYTE: u64 = 85;

impl Metrics {
    /// Reads the page of the admin listener.
    pub(crate) fn read(admin: &str) -> Outcome<Self> {
        let page = http::fetch(&format!("http://{admin}/metrics"))?;
        Ok(Self::parse(&String::from_utf8_lossy(&page)))
    }

    fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Sample::parse).collect())
    }

    /// The sum over all label values.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.0.iter().filter(|sample| sample.name == name).map(|sample| sample.value as u64).sum()
    }

    /// The sample with this label value.
    pub(crate) fn of(&self, name: &str, label: &str, value: &str) -> u64 {
        let wanted = format!("{label}=\"{value}\"");
        let fits =
            |sample: &&Sample| sample.name == name && sample.labels.split(',').any(|pair| pair == wanted);
        self.0.iter().filter(fits).map(|sample| sample.value as u64).sum()
    }

    /// Each value of a label with its figure, zeros left out.
    fn by(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let start = format!("{label}=\"");
        let samples = self.0.iter().filter(|sample| sample.name == name && sample.value > 0.0);
        let value = |sample: &Sample| {
            let pair = sample.labels.split(',').find_map(|pair| pair.strip_prefix(start.as_str()))?;
            Some((pair.trim_end_matches('"').to_owned(), sample.value as u64))
        };
        samples.filter_map(value).collect()
    }

    /// Bytes handed to viewers.
    pub(crate) fn delivered(&self) -> u64 {
        self.sum("weir_engine_bytes_total")
    }

    /// Bytes bought, by source. The shelf is the node's own disk, where it keeps signed indexes.
    pub(crate) fn bought(&self) -> Vec<(String, u64)> {
        let mut sources = self.by("weir_sourcing_bytes_total", "source");
        sources.retain(|(source, _)| source != "shelf");
        sources
    }

    /// Bytes bought from all sources.
    pub(crate) fn upstream(&self) -> u64 {
        self.bought().iter().map(|(_, bytes)| bytes).sum()
    }

    /// What was not spent, in picodollars: every delivered byte at CloudFront's list price, less what the
    /// sources asked.
    pub(crate) fn saved_picodollars(&self) -> i128 {
        let cdn = i128::from(self.delivered()) * i128::from(CLOUDFRONT_PICODOLLARS_PER_BYTE);
        cdn - i128::from(self.sum("weir_sourcing_spend_picodollars_total"))
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').to_owned();
        Some(Self { name: name.to_owned(), labels, value: value.parse().ok()? })
    }
}

/// `0.123456 USD`
pub(crate) fn dollars(picodollars: i128) -> String {
    let sign = if picodollars < 0 { "-" } else { "" };
    let micro = picodollars.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:06} USD", micro / 1_000_000, micro % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP weir_engine_bytes_total x\n\
        weir_engine_bytes_total{outcome=\"memory\"} 3000000000\n\
        weir_engine_bytes_total{outcome=\"filled\"} 1000000000\n\
        weir_engine_bytes_total{outcome=\"disk\"} 0\n\
        weir_sourcing_bytes_total{source=\"s3\"} 1000000000\n\
        weir_sourcing_bytes_total{source=\"shelf\"} 5000\n\
        weir_sourcing_spend_picodollars_total{source=\"s3\"} 20000000000\n\
        weir_up 1\n";

    #[test]
    fn figures() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.delivered(), 4_000_000_000);
        assert_eq!(metrics.upstream(), 1_000_000_000);
        assert_eq!(metrics.of("weir_engine_bytes_total", "outcome", "memory"), 3_000_000_000);
        assert_eq!(metrics.of("weir_engine_bytes_total", "outcome", "peer"), 0);
        assert_eq!(metrics.by("weir_engine_bytes_total", "outcome").len(), 2);
        assert_eq!(metrics.sum("weir_up"), 1);
        // 4 GB at 0.085 less 0.02.
        assert_eq!(dollars(metrics.saved_picodollars()), "0.320000 USD");
        assert_eq!(dollars(-1_500_000_000_000), "-1.500000 USD");
    }
}
