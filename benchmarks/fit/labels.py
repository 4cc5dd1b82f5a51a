"""Which domain a prompt belongs to: by the subject of its table, or because we wrote it.

Only groups whose domain is plain are named; the others teach nothing about domains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

SUBJECTS: Mapping[str, str] = {
    "mathematics": "high_school_mathematics elementary_mathematics abstract_algebra "
    "college_mathematics high_school_statistics",
    "code": "machine_learning computer_security high_school_computer_science "
    "college_computer_science",
    "natural science": "astronomy conceptual_physics high_school_biology high_school_physics "
    "college_biology high_school_chemistry electrical_engineering college_chemistry "
    "college_physics",
    "medicine": "human_aging medical_genetics anatomy professional_medicine clinical_knowledge "
    "college_medicine nutrition virology human_sexuality",
    "law": "international_law jurisprudence professional_law",
    "humanities": "world_religions prehistory high_school_world_history philosophy "
    "moral_disputes high_school_european_history high_school_us_history logical_fallacies "
    "formal_logic moral_scenarios",
    "social science": "sociology professional_psychology high_school_psychology "
    "high_school_macroeconomics high_school_microeconomics high_school_geography "
    "security_studies high_school_government_and_politics us_foreign_policy econometrics",
    "business": "management marketing professional_accounting business_ethics public_relations",
    "general": "miscellaneous global_facts",
}

GROUPS: Mapping[str, Mapping[str, str]] = {
    "routellm_mmlu": {
        group: domain for domain, groups in SUBJECTS.items() for group in groups.split()
    },
    "mmlu_pro": {
        "math": "mathematics",
        "computer science": "code",
        "physics": "natural science",
        "biology": "natural science",
        "engineering": "natural science",
        "chemistry": "natural science",
        "health": "medicine",
        "law": "law",
        "philosophy": "humanities",
        "history": "humanities",
        "psychology": "social science",
        "economics": "social science",
        "business": "business",
    },
    "routellm_gsm8k": {"gsm8k": "mathematics"},
    "llmrouter9": {
        "gsm8k": "mathematics",
        "math": "mathematics",
        "agentverse-mgsm": "mathematics",
        "mbpp": "code",
        "human_eval": "code",
        "arc_challenge": "natural science",
        "openbook_qa": "natural science",
        "commongen": "writing",
        "natural_qa": "general",
        "trivia_qa": "general",
        "commonsense_qa": "general",
    },
    "paretobandit_k4": {
        "gsm8k": "mathematics",
        "mbpp": "code",
        "arc_challenge": "natural science",
        "openbookqa": "natural science",
        "hellaswag": "general",
        "winogrande": "general",
    },
}

# Prompts as users type them, written for this purpose: every table above asks exam questions or
# riddles, and a head that saw nothing else takes "write a poem" for one of them.
_TOPICS = (
    "autumn",
    "my grandmother's garden",
    "a lost dog",
    "the first day at a new job",
    "friendship",
    "a lighthouse keeper",
    "moving to another city",
    "patience",
    "a dragon who is afraid of heights",
    "our company picnic",
    "remote work",
    "a wedding anniversary",
)
_PROGRAMS = (
    "reverses a linked list",
    "parses a CSV file and drops duplicate rows",
    "checks whether a string is a palindrome",
    "merges two sorted arrays",
    "retries an HTTP request with exponential backoff",
    "finds the longest common subsequence",
    "validates an email address",
    "counts the words in a file",
)
_LANGUAGES = ("Python", "JavaScript", "Rust", "Go", "Java", "C++")
_ERRANDS = (
    "remove a coffee stain from a shirt",
    "repot a house plant",
    "pack a suitcase for a week",
    "cook rice without a cooker",
    "teach my son to ride a bicycle",
    "choose a present for a colleague",
    "sharpen a kitchen knife",
    "fall asleep earlier",
)
_PLACES = ("Lisbon", "Kyoto", "Chicago", "Nairobi", "Oslo", "Buenos Aires")
_COUNTRIES = ("France", "Peru", "Canada", "Thailand", "Ghana", "Norway")
_ILLNESSES = (
    "type 2 diabetes",
    "migraine",
    "high blood pressure",
    "iron deficiency",
    "asthma",
    "a torn meniscus",
    "shingles",
    "an underactive thyroid",
)
_DISPUTES = (
    "my landlord keeps the deposit",
    "my employer dismisses me while I am on sick leave",
    "a contractor abandons the renovation",
    "a neighbour's tree falls on my fence",
    "a shop refuses to refund a faulty phone",
    "somebody uses my photograph without permission",
)
_FIRMS = (
    "a bakery",
    "a software start-up",
    "an online shop for shoes",
    "a dental practice",
    "a bicycle rental",
    "a consulting firm",
)
_EXPRESSIONS = (
    "3x^2 - 12x + 9 = 0",
    "2x + 5 = 17",
    "x^3 - 4x = 0",
    "(x - 2)(x + 7) = 10",
    "sin(x) = 1/2",
    "e^(2x) = 5",
)
_SUMS = (
    "2+2",
    "7 * 8",
    "15% of 240",
    "the square root of 144",
    "1/3 + 1/6",
    "2^10",
    "365 divided by 7",
    "12 - 30",
)
_PHENOMENA = (
    "photosynthesis",
    "a rainbow",
    "nuclear fusion",
    "osmosis",
    "friction",
    "plate tectonics",
    "a chemical bond",
    "the Doppler effect",
)
_THINKERS = (
    "Socrates",
    "Immanuel Kant",
    "Confucius",
    "Simone de Beauvoir",
    "the Roman Empire",
    "the French Revolution",
    "the Renaissance",
    "Buddhism",
)
_SOCIETY = (
    "inflation",
    "unemployment",
    "voter turnout",
    "migration",
    "social class",
    "peer pressure",
    "attachment in early childhood",
    "a minimum wage",
)

_PATTERNS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "writing": (
        ("Write a short poem about {}.", _TOPICS),
        ("Write a heartfelt speech about {}.", _TOPICS),
        ("Compose a funny limerick about {}", _TOPICS),
        ("Continue this story about {} in the style of a fairy tale.", _TOPICS),
        ("Draft a blog post on {} with a catchy headline", _TOPICS),
        ("Please proofread and rewrite my paragraph about {} so that it flows better.", _TOPICS),
        ("Give me five title ideas for an essay about {}.", _TOPICS),
        ("Translate this letter about {} into friendly, simple English.", _TOPICS),
        ("Write song lyrics about {}", _TOPICS),
    ),
    "code": (
        ("Write a {} function that {}.", (_LANGUAGES, _PROGRAMS)),
        ("Refactor this {} code, which {}, and add unit tests.", (_LANGUAGES, _PROGRAMS)),
        ("Why does my {} program, which {}, throw an exception?", (_LANGUAGES, _PROGRAMS)),
    ),
    "general": (
        ("How do I {}?", _ERRANDS),
        ("What is the quickest way to {}?", _ERRANDS),
        ("What should I see in {} in three days?", _PLACES),
        ("Where can I find good vegetarian food in {}?", _PLACES),
        ("How many people live in {}?", _PLACES),
        ("What is the capital of {}?", _COUNTRIES),
        ("{}?", ("Who are you", "How are you today", "What can you do", "What time is it")),
        ("{}, hello! Can you help me with something?", ("Hi", "Hey", "Good morning", "Thanks")),
        ("Recommend a film for a rainy evening in {}.", _PLACES),
    ),
    "medicine": (
        ("What are the symptoms of {}?", _ILLNESSES),
        ("How is {} treated, and what are the side effects?", _ILLNESSES),
        ("My doctor says I have {}. What should I eat?", _ILLNESSES),
    ),
    "law": (
        ("What are my legal rights if {}?", _DISPUTES),
        ("Can I sue when {}?", _DISPUTES),
        ("Which law applies if {}?", _DISPUTES),
    ),
    "business": (
        ("Draft a marketing plan for {}.", _FIRMS),
        ("How should {} price its services to raise its profit margin?", _FIRMS),
        ("Prepare a cash flow forecast for {}", _FIRMS),
        ("Which key performance indicators matter for {}?", _FIRMS),
    ),
    "mathematics": (
        ("Solve {} for x.", _EXPRESSIONS),
        ("Find all real solutions of {} and show your steps.", _EXPRESSIONS),
        ("How do I prove that {} has a solution?", _EXPRESSIONS),
        ("What is {}?", _SUMS),
        ("How much is {}", _SUMS),
        ("Compute {}.", _SUMS),
    ),
    "natural science": (
        ("Explain {} to a ten-year-old.", _PHENOMENA),
        ("What causes {}?", _PHENOMENA),
        ("Which experiment demonstrates {}?", _PHENOMENA),
    ),
    "humanities": (
        ("What did the ideas behind {} change?", _THINKERS),
        ("Compare how historians judge {}.", _THINKERS),
        ("Why does {} still matter to philosophy and religion today?", _THINKERS),
    ),
    "social science": (
        ("What do economists and sociologists say about {}?", _SOCIETY),
        ("How does {} influence a society?", _SOCIETY),
        ("Which studies in psychology or politics explain {}?", _SOCIETY),
    ),
}


def written_prompts() -> Iterator[tuple[str, str]]:
    """Yield the prompts of our own, each with its domain."""
    for domain, patterns in _PATTERNS.items():
        for pattern, fillers in patterns:
            for filling in product(*(fillers if isinstance(fillers[0], tuple) else (fillers,))):
                yield pattern.format(*filling), domain
