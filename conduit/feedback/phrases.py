"""How assistants say no, excuse themselves, and fill up a non-answer: the patterns of `refusals`.

All patterns read lower-case text with straight quotes, one sentence at a time. They are built from
parts (who, adverbs, negation, verb), since refusals differ in wording more than in shape.
"""

# ruff: noqa: RUF001  (the letters of other languages are meant)

import re
from typing import Final


def either(*parts: str) -> re.Pattern[str]:
    """Return one pattern that matches where any of the parts does."""
    return re.compile("|".join(f"(?:{part})" for part in parts))


# --- English, from parts ----------------------------------------------------------------------

_SELF: Final = (
    r"(?:\bi\b|\bi\b.{0,60}?\b(?:and|or|so)\b|\bassistant\b|^(?:sorry|apologies|unfortunately),?)"
)
_ADVERBS: Final = (
    r"(?:,? ?(?:\w+ly|just|also|still|even|therefore|thus|hence|in good (?:faith|conscience)"
    r"|(?:and|or) (?:will not|won't)|of any"
    r"|at (?:this|the) (?:time|moment)|right now|for you|be able to|be|do)\b,?){0,3} ?"
)
_SHORT_ADVERB: Final = r"(?:\w+ly |just |really )?"
_NEGATED: Final = "|".join(
    (
        r"can ?not|can't|won't|will not|shall not|could not|couldn't|would not|wouldn't"
        r"|refrain from|avoid",
        rf"(?:am|'m|are|'re|was) {_SHORT_ADVERB}(?:not|never) {_SHORT_ADVERB}(?:able|allowed"
        rf"|permitted|authori[sz]ed"
        r"|programmed|designed|equipped|in a position|going|willing|trained|meant|supposed"
        r"|at liberty|qualified|free|prepared|here)(?: to)?",
        rf"(?:am|'m|are|'re) {_SHORT_ADVERB}(?:unable|unwilling|forbidden|prohibited)(?: to"
        rf"| from)?",
        r"(?:do not|don't) (?:have|possess) (?:the |any )?(?:\w+ )?(?:ability|capability"
        r"|capacity|permissions?"
        r"|authority|means|tools?|option)(?: needed| required)? to|lack the (?:\w+ )?(?:ability"
        r"|capability|means|tools?) to",
        r"(?:'d|would) (?:rather|prefer) not(?: to)?|(?:do not|don't) (?:want|wish|intend|plan) to",
        r"(?:have|'ve) been \w+ed (?:not|never) to|(?:am|'m|was) \w+(?:ed|ld) (?:not|never) to",
        r"(?:do not|don't) (?:think|believe|feel)(?: that)?(?: it is| it's)?(?: i)?(?: should"
        r"| can| could| would be able to| appropriate| right| ethical)(?: for me)?(?: to)?",
    )
)
_ASSISTING: Final = (
    r"(?:(?:help|assist|aid|support|compl[yi]|fulfil|fulfill|satisf[yi]|accommodat|honou?r|engag"
    r"|participat"
    r"|continu|proceed|process|complet|respond|repl[yi]|answer|discuss|talk|chat|comment|speak"
    r"|speculat|touch"
    r"|writ|creat|generat|produc|draft|compos|reproduc|execut|fabricat|facilitat|encourag|promot"
    r"|endors|condon"
    r"|reveal|disclos|impersonat|handl|provid|giv|offer|shar|suppl[yi]|describ|explain|teach"
    r"|instruct|guid|advis|express|address|perform|entertain)(?:e|es|ing)?"
    r"|take part|be (?:a )?part of|be involved|weigh in|get into|go into|go there|role-?play"
    r"|pretend to be|carry out"
    r"|do (?:that|this|so|it|what)|walk you|show you|act as|form (?:an )?opinion"
    r"|tell you(?! how (?:much|happy|glad|good|proud|often))"
    r"|make (?:that|this|jokes?|phone|calls?|purchases?|reservations?|judg\w+))\b"
)
_LOOKING: Final = (
    r"(?:access|open|view|brows|see|read|look|search|verif[yi]|confirm|check|predict|forecast"
    r"|know|recall|remember"
    r"|diagnos|prescrib|play|draw|translat|watch|listen|hear|download|visit|send|book|call|run"
    r"|feel)(?:e|es|ing)?\b"
)
_ADVICE: Final = (
    r"(?:provide|give|offer|share|express|supply|advise|tell you)\b.{0,40}?\b(?:advice|opinions?"
    r"|diagnos[ie]s|real-?time"
    r"|live|current|up-?to-?date|personal|weather|predictions?|prices?|exact|precise|definit\w+"
    r"|specific|whether|which|what)\b"
)
_RULES: Final = (
    r"(?:guidelines|polic(?:y|ies)|principles|programming|values|rules|terms|ethic\w*|instructions"
    r"|safety|training)"
)

_SOURCES: Final = (
    r"(?:(?:provided|given|supplied|retrieved|available|uploaded|attached) )?(?:context|documents?"
    r"|passages?|sources?|excerpts?|knowledge base|search results?|snippets?|materials?"
    r"|documentation)(?: (?:provided|given|supplied|retrieved|available|above"
    r"|i (?:have|was given)))?"
)

# Withholding the answer itself: what follows is seldom one.
FIRM: Final = either(
    rf"{_SELF} ?{_ADVERBS}(?:{_NEGATED}){_ADVERBS}{_ASSISTING}",
    rf"^(?:(?:sorry|apologies|no)[,.:!]? ?)?(?:can't|cannot|can not|won't|unable to"
    rf"|not able to) {_ASSISTING}",
    r"\b(?:i|we) (?:\w+ly )?(?:do not|don't|never) (?:provide|offer|give|comment|discuss|engage"
    r"|answer|share|write|create|generate|help|support|speculate|participate|respond|assist)\b",
    r"\b(?:i|we)(?: can|'m| am|'re| are| was)?(?: \w+)?(?: to)? only (?:able to |here to "
    r"|allowed to |meant to )?(?:help|answer|assist|discuss|respond|talk|handle|support)\b",
    r"\b(?:do not|don't|not|isn't)(?: \w+ly)? (?:feel(?:ing)? )?(?:comfortable|right|good|okay"
    r"|at ease) (?:about |with |in |to )?(?:\w+ing|answer|help|discuss|this|that)\b",
    r"\b(?:i'm|i am|makes me) uncomfortable|\bi(?:'d| would) (?:rather|prefer) not\b"
    r"|^(?:sorry,? )?no can do\b|\bsay no to (?:this|that|it)\b|\blet's not go there\b",
    r"\bi(?:'ll|'d|'m| am| must| have| need| will| should)?(?: \w+ly)?(?: have| need| going"
    r"| required| like)?(?: to)?(?: \w+ly)?"
    r" (?:decline|refuse|turn (?:this|that|it) down|pass(?: on (?:this|that)|\.|!|$))",
    r"\b(?:something|topics?|area|subject|request|content|one|things?)(?: that| which)? (?:i"
    r"|we)(?:'m| am|'re| are)?"
    r" ?(?:\w+ly )?(?:can't|cannot|can\b|won't|not|avoid|do not|don't|refuse|decline|prefer not"
    r"|stay)(?! \w+ you in)\b",
    r"\b(?:not|isn't) (?:something|anything|an? (?:topic|area|subject|matter|question|request))"
    r"(?: that| which)? (?:i|we)\b",
    r"\bi(?:'ll| will| must|'m going to| am going to| have to|'d)?(?: have to)? (?:stop you"
    r" (?:there|here)|draw (?:the|a) line)|\bwhere (?:i|we) draw the line\b"
    r"|\bbest not to (?:continue|discuss|engage|go|get|answer|pursue)\b",
    r"\b(?:prefer|rather|better|best) (?:that |if )?we (?:didn't|did not|don't|do not|not)\b"
    r"|\b(?:cross\w*|over) (?:a|the) line\b.{0,20}\b(?:i|we)(?:'m| am|'re"
    r"| are)? (?:\w+ )?(?:not|won't|never|can't|cannot)\b"
    rf"|{_SELF} ?{_ADVERBS}(?:{_NEGATED}){_ADVERBS}recommend(?!.{{0,60}}\benough\b)\w*\b",
    r"^for (?:\w+ |\w+ and \w+ )?(?:privacy|legal|safety|security|ethical|policy|confidentiality"
    r"|compliance|copyright) reasons\b.{0,120}(?:\b(?:not|cannot|unable)\b|n't\b)",
    r"^(?:such |these |those |this |that )?(?:requests?|questions?|prompts?|quer(?:y|ies)|topics?"
    r"|types? of (?:request|question|content))\b.{0,40}(?:\bnot|n't) (?:supported|allowed"
    r"|permitted|accepted|possible)\b",
    r"\b(?:outside|beyond|exceeds?|not (?:within|part of|in)) (?:of )?(?:what (?:i|we)\b|(?:the "
    r"|my |our )(?:scope|area|expertise"
    r"|capabilit\w+|abilit\w+|programming|guidelines|remit|purpose|role|domain))",
    rf"\b(?:against|violat\w+|breach\w*|breaks?|conflicts? with|contrary to"
    rf"|not in line with) (?:my|our|the) (?:\w+ ){{0,2}}{_RULES}",
    rf"\b{_RULES} .{{0,30}}\b(?:prevent|prohibit|forbid|restrict|(?:do not|don't|does not"
    rf"|doesn't) (?:allow|permit|let))\w*\b",
    r"(?:\b(?:inappropriate|unethical|irresponsible|wrong|improper)|(?:not|n't)(?: be)? (?:"
    r"appropriate|ethical|right|responsible|safe|proper|possible|feasible))(?: \w+)? for me to\b",
    r"^(?:it is|it's|it would be|it wouldn't be)(?: \w+)? (?:inappropriate|unethical"
    r"|irresponsible|not (?:appropriate|ethical|safe"
    r"|acceptable))(?: (?:or|and) \w+)? to (?:make|generate|create|write|discuss|speculate|share"
    r"|engage|joke|stereotype|provide|give|promote|suggest|offer|describe|assist|help)\b",
    r"\b(?:request|prompt|response|message|content|query|input|output|question"
    r"|answer)\b.{0,30}\b(?:rejected|filtered|blocked"
    rf"|flagged|refused|withheld|removed|denied|fulfilled)\b.{{0,80}}\b(?:{_RULES}|moderation"
    rf"|not allowed|prohibited|inappropriate"
    r"|harmful|content)\b",
    r"^(?:sorry,? |unfortunately,? )?(?:this|that|your|the|such) (?:\w+ )?(?:requests?|questions?"
    r"|prompts?|quer(?:y|ies)|tasks?|messages?|content)\b.{0,40}(?:\b(?:cannot|can not|could not"
    r"|will not|may not|unable to)|n't) be (?:fulfilled|completed|processed|answered|granted"
    r"|handled|honou?red|satisfied|carried out|met|displayed|shown|generated)\b",
    r"^(?:this|that|your) (?:request|question|prompt|topic|content)\b.{0,40}\b(?:violates"
    r"|goes against|breaches|(?:is not|isn't) (?:allowed|permitted|something))",
    rf"\b{_SOURCES}\b(?:.{{0,30}}\b(?:do|does|did|is|are)(?: not\b|n't\b)|.{{0,20}}\blacks?\b)"
    r".{0,30}\b(?:(?:the|an|any|enough|sufficient|relevant) (?:\w+ )?(?:answers?|information"
    r"|details?|data|context)|answer (?:this|that|your|the)|relevant to (?:this|your|the))\b",
    rf"\b(?:could not|couldn't|cannot|can't|did not|didn't|unable to|no) (?:\w+ )?(?:find|see"
    rf"|locate|answer|information|answers?|mention|details?)\b.{{0,60}}\b(?:in|from|within) (?:the "
    rf"|these |those |your |any of the )?{_SOURCES}\b",
)

# Naming a limit: an answer often follows ("I can't browse the web, but as of 2024 ...").
SOFT: Final = either(
    rf"\bi(?:\b.{{0,30}}\band)? ?{_ADVERBS}(?:{_NEGATED}){_ADVERBS}(?:{_LOOKING}|{_ADVICE})",
    r"^(?:i|we|this|my|as)\b.{0,90}[,;] (?:and )?so (?:that )?(?:i|we)(?:'m| am|'re| are)?"
    r" (?:\w+ly )?(?:can't|cannot|can not|won't|unable|not able)\b",
    r"\bi (?:do not|don't) (?:\w+ )?(?:have|possess|hold)(?: \w+){0,2} (?:access|ability"
    r"|capability|opinions?|feelings?|emotions?"
    r"|beliefs?|preferences?|experiences?|real-?time|live|body|consciousness|memory)\b",
    r"(?:\bnot|n't) (?:have |see |find |given )?(?:enough|sufficient) (?:\w+ )?"
    r"(?:information|context|data|details?|evidence)\b.{0,60}"
    r"\bto (?:answer|say|tell|determine|help|respond)\b",
    r"\b(?:i|we)(?:'m| am|'re| are) (?:\w+ )?(?:not|never) (?:\w+ )?(?:in a position|able|allowed"
    r"|permitted|qualified|authori[sz]ed|equipped) to \w+",
    r"\bi (?:do not|don't) (?:\w+ly )?know (?:anything|enough|much|the answer|who|what|when|where"
    r"|why|how|which|if|whether)\b",
    r"\bi have no (?:\w+ )?(?:access|way|ability|opinions?|feelings?|experiences?|memory"
    r"|real-?time)\b",
    r"\bi(?:'m| am) (?:only |just |merely )?(?:an? )?(?:ai\b|large language model|language model"
    r"|text-based|virtual assistant"
    r"|chatbot).{0,80}\b(?:can't|cannot|don't|do not|unable|not able)\b",
    r"^as an? (?:ai\b|artificial|large language|language model|chatbot|virtual"
    r"|text-based).{0,80}\b(?:can't|cannot|don't|do not|unable|not able|have no|lack)\b",
)

# Without any of these in its opening, a text refuses nothing: a cheap look before the patterns.
NEGATIONS: Final = (
    "n't", "not", "unable", "declin", "refus", "against", "rather", "outside", "beyond", "only",
    "pass", "never", "say no", "reject", "filtered", "blocked", "withheld", "inappropriate",
    "unethical", "irresponsible", "avoid", "uncomfortable", "no can do", "go there", "violat",
    "prevent", "prohibit", "forbid", "have no", "impossible", "flagged", "removed", "denied",
    "nicht", "kein", "ablehn", "gegen ", " ne ", "n'", "pas", "refuser", "décliner", "incapa",
    "no ", "non ", "não", "infring", "niet", "geen", "не ", "nie ", "无法", "不能", "不便", "無法",
    "没有", "沒有", "でき", "かね", "없", "amam", "emem", "yorum", " inte ", " ikke ", "nemoh",
    "nemůž", "не м", "لا ", "नहीं", "tidak", "không", "lack",
)  # fmt: skip

# --- weaker cues: a first person that says no, and two more of these, and nothing else -------

SAYS_NO: Final = either(
    r"\b(?:i|we|my|me)\b[^.;:]{0,40}?(?:\b(?:not|cannot|never|no|unable|unwilling|decline|refuse"
    r"|avoid|only|rather)\b|n't\b)",
    r"\b(?:not|isn't|never) (?:be )?(?:possible|allowed|permitted|appropriate|acceptable)\b"
    r"|\bgoes against\b|\bviolates\b|\bimpossible\b",
    r"\b(?:ich|wir|mir)\b.{0,40}\b(?:nicht|keine?[nmrs]?|nur|ungern)\b|\b(?:nicht"
    r"|keine?[nmrs]?)\b.{0,20}\bich\b|\bnicht (?:möglich|erlaubt|gestattet|zulässig)\b",
    r"\bje (?:ne|n'|préfère|refuse)|\bn'est pas (?:possible|conforme|autorisé|permis|approprié)",
    r"\bno (?:puedo|debo|estoy|soy|es posible|quiero|voy|me|está permitid)|\bprefiero no\b"
    r"|\binfringe\b",
)
CUES: Final = (
    re.compile(
        r"\b(?:sorry|apologi\w+|apologies|unfortunately|regrettably|afraid|leider|tut mir leid"
        r"|bedau\w+|désolée?s?|malheureusement"
        r"|pardon|regrette|lo siento|lamento|lamentablemente|me temo|disculp\w+|perd[oó]n\w*)\b"
    ),
    re.compile(
        r"\b(?:this|that|your|such|these|those) (?:\w+ )?(?:request|question|topic|subject"
        r"|content|task|query|matter|information"
        r"|conversation|prompt|kind|type|sort)\b|\b(?:help|assist|handle|deal|comply"
        r"|possible)\b.{0,12}\b(?:that|this|it|your|me)\b"
        r"|\b(?:diese\w*|ihre?|deine?|das|solche\w*) (?:anfrage|frage|thema|bitte|inhalt\w*"
        r"|anliegen)\b|\b(?:cette|votre|ce|ta|ces) (?:demande|question|requête|sujet|type|genre)\b"
        r"|\b(?:es[ae]|est[ae]|tu|su) (?:solicitud|pregunta|petición|tema|tipo)\b"
    ),
    re.compile(
        rf"\b{_RULES}\b|\b(?:illegal|confidential|prohibited|harmful|harassing|violence|hurt"
        rf"|inappropriate|privacy|copyright\w*"
        r"|richtlinien|regeln|verboten|vertraulich|règles|directives|interdit|illégal|normas"
        r"|políticas|ilegal|prohibid\w+)\b"
    ),
    re.compile(
        r"\b(?:please|perhaps|try|maybe) (?:contact|consult|see|talk|speak|call|text|ask|asking"
        r"|reach|rephrase|provide|let me|choose)\b"
        r"|\b(?:talk|speak) to (?:your|a|an|someone)\b|\bsome(?:thing|one) else\b|\b(?:another"
        r"|different) (?:question|topic|way)\b"
        r"|\bhelp you with\b|\bhappy to (?:help|discuss)\b|\bwenden sie sich\b|\bandere frage\b"
        r"|\bconsulte[rz]?\b|\bconsulta a\b|\bautre (?:chose|question)\b|\botra (?:cosa|pregunta)\b"
    ),
    re.compile(
        r"\b(?:as an? (?:ai|assistant|language|large|responsible|virtual)|an ai\b|language model"
        r"|chatbot|(?:built|designed|trained"
        r"|made|programmed|meant|here) (?:to|for)|my (?:purpose|role|instructions|training"
        r"|capabilities)|als (?:ki|assistent\w*|sprachmodell)"
        r"|en tant qu|qu'une ia|como (?:ia|modelo|asistente))\b"
    ),
)

# --- other languages --------------------------------------------------------------------------

_DE_VERB: Final = (
    r"(?:helfen|weiterhelfen|behilflich|beantworten|bearbeiten|antworten|geben|bereitstellen"
    r"|erstellen|schreiben|verfassen"
    r"|generieren|liefern|erfüllen|nachkommen|unterstützen|teilen|diskutieren|äußern|sprechen"
    r"|anbieten|erzeugen|entsprechen"
    r"|auskunft|angaben|tun|sagen|machen|dienen|öffnen|zugreifen|einsehen|abrufen|erteilen)\b"
)
_DE_MAY: Final = r"(?:kann|darf|möchte|werde|könnte|will)"
OTHER: Final = either(
    # German: the verb stands at the end of the clause.
    rf"\b(?:{_DE_MAY} (?:ich|wir)|(?:ich|wir) {_DE_MAY}"
    rf"|ich bin .{{0,30}}\bund {_DE_MAY})\b(?:.{{0,60}}\b(?:nicht"
    rf"|keine?[nmrs]?)\b).{{0,60}}\b{_DE_VERB}",
    r"\b(?:ich|wir|mir)\b.{0,30}\bnicht (?:in der lage|befugt|berechtigt|erlaubt|gestattet"
    r"|möglich)\b|\bnicht in der lage\b",
    r"\b(?:muss|möchte|werde) ich\b.{0,50}\bablehnen\b|\bich (?:muss|möchte"
    r"|werde)\b.{0,60}\bablehnen\b",
    r"\bgegen (?:meine|unsere) (?:\w+ )?(?:richtlinien|grundsätze|regeln)",
    # French
    r"\bje (?:ne |n')(?:peux|puis|saurais|pourrai|suis)(?: \w+ment)? pas (?:vous |t'|te |y |l'"
    r"|être )*(?:aide|assister|répondre|fournir"
    r"|donner|créer|écrire|rédiger|générer|accéder|satisfaire|traiter|discuter|partager|proposer"
    r"|produire|faire (?:cela|ça)"
    r"|exécuter|en mesure|autorisée?|capable|habilitée?|programmée?|parler|accomplir|utile)",
    r"\bje suis (?:dans l'incapacité|incapable|dans l'impossibilité) de\b|\bil (?:m'est"
    r"|ne m'est pas) (?:im)?possible d|\bje (?:dois|préfère) (?:\w+ )?(?:refuser|décliner|ne pas)",
    r"\bje n'ai pas (?:d'opinion|accès|la capacité|la possibilité)|\bcontraire à mes (?:règles"
    r"|principes|directives)",
    # Spanish
    r"\bno (?:puedo|podemos|podré|debo|voy a)(?: \w+)? ?(?:ayudar|asistir|cumplir|proporcionar"
    r"|responder|generar|crear|dar|ofrecer"
    r"|escribir|realizar|compartir|acceder|atender|procesar|hablar|participar|facilitar"
    r"|contestar|hacer (?:eso|esto)|redactar|producir)",
    r"\bno (?:estoy|soy|me es|me está|tengo)(?: \w+)? ?(?:autorizad|capaz|posible|permitid"
    r"|capacidad|en condiciones|programad|diseñad"
    r"|disponible|opini|acceso)|\ben contra de mis (?:políticas|principios|normas)",
    # Italian, Portuguese, Dutch
    r"\bnon (?:posso|sono in grado|sono autorizzat\w|mi è possibile)\b.{0,15}\b(?:aiutar|fornir"
    r"|risponder|crear|generar|assister|scriver|soddisfar|dar|far)\w*",
    r"\bnão (?:posso|consigo|estou autorizad\w|tenho permissão|sou capaz)\b.{0,12}\b(?:ajud"
    r"|fornec|respond|cri|ger|atend|auxili|cumpr|escrev|faz)\w+",
    r"\b(?:(?:kan|mag|wil) ik|ik (?:kan|mag|wil))\b.{0,40}\b(?:niet|geen)\b.{0,40}\b(?:helpen"
    r"|beantwoorden|geven|schrijven|maken|voldoen|doen)\b",
    # Russian, Polish, Chinese, Japanese, Korean: the set phrases
    r"не (?:могу|можем|имею возможности|в состоянии) (?:вам |тебе )?(?:помочь|ответить"
    r"|предоставить|выполнить|создать|обсуждать|написать)",
    r"nie (?:mogę|jestem w stanie|możemy)(?: \w+)? (?:pomóc|odpowiedzieć|udzielić|spełnić"
    r"|napisać|stworzyć)",
    r"(?:无法|不能|不便|無法|没有办法|沒有辦法)(?:为您|向您|给您|帮您)?(?:帮助|协助|提供|回答|满足|处理|生成|完成|讨论|協助|幫助|滿足)",
    r"(?:お応え|お答え|お手伝い|対応|提供|回答|お助け|ご協力)(?:は|を|する|すること)*が?(?:でき|いたしかね|致しかね)",
    r"(?:도와드릴|답변(?:을)? 드릴|제공(?:해 드릴|할)|도움을 드릴) 수 (?:가 )?없",
    # Turkish, Swedish, Danish, Norwegian, Czech, Ukrainian, Arabic, Hindi, Indonesian, Vietnamese
    r"\b(?:yardımcı ol|yanıt ver|cevap ver|sağla|yap|yerine getir)(?:amam|emem|amıyorum|emiyorum)",
    r"\b(?:jag kan|kan jag) (?:\w+ )?inte (?:hjälpa|svara|ge|skriva|göra|assistera)"
    r"|\b(?:jeg kan|kan jeg) (?:\w+ )?ikke (?:hjælpe|hjelpe|svare|give|gi|skrive|assistere|bistå)",
    r"\b(?:nemohu|nemůžu|nejsem schopen)\b.{0,20}\b(?:pomoci|pomoct|odpovědět|poskytnout)"
    r"|не (?:можу|маю змоги)(?: вам| тобі)? (?:допомогти|відповісти|надати|виконати)",
    r"لا (?:أستطيع|يمكنني|أقدر).{0,15}(?:مساعد|تقديم|الإجابة|توفير)"
    r"|(?:सहायता|मदद|उत्तर).{0,10}नहीं (?:कर|दे) सकत",
    r"\b(?:tidak (?:bisa|dapat)|nggak bisa) (?:\w+ )?(?:membantu|menjawab|memberikan|memenuhi)"
    r"|không thể (?:\w+ )?(?:giúp|trả lời|cung cấp|hỗ trợ|thực hiện)",
)

# --- what may follow a refusal without being an answer ----------------------------------------

_LINK: Final = (
    r"^(?:(?:instead|additionally|also|remember|however|but|and|so|that said|though|if not"
    r"|in summary|for this|perhaps),? )*"
)
EXCUSE: Final = either(
    r"\?$|^instead of\b|\bno way (?:for me )?to\b|^(?:so |and )?i have no (?:way|means)\b",
    rf"{_LINK}(?:if you|please\b|feel free|let me know|let's|don't hesitate|you (?:may|might"
    rf"|could|can|should)\b)",
    rf"{_LINK}i(?:'d| would| will|'ll| can|'m| am| could| encourage| recommend| suggest| urge"
    rf"| advise| hope| understand| appreciate"
    r"| know| realize| want)\b.{0,40}\b(?:help|happy|glad|assist|discuss|explain|suggest|offer"
    r"|recommend|encourage|here|talk"
    r"|describe|summary|provide|write|advise|urge|understand|appreciate|listen|learn|question"
    r"|curiosity)",
    rf"{_LINK}it(?:'s| is| would be| might be)(?: \w+)? (?:important|best|better|essential"
    rf"|advisable|helpful|always|never|crucial|not)\b",
    rf"{_LINK}(?:there are (?:many|other|plenty|legal|better|resources|several)|every(?:one"
    rf"| person| human)\b|because|since"
    r"|(?:my|our) (?:role|goal|aim|purpose|knowledge|training|capabilities)|thank(?:s| you)|hi\b"
    r"|hello|sorry|i apologi[sz]e"
    r"|my apologies|i(?:'m| am) (?:\w+ly |so )?sorry|as (?:it|this|that|an?) )",
    r"\b(?:consult|contact|reach out|seek|speak (?:to|with)|talk (?:to|with|things)|see a|ask a"
    r"|refer to|get in touch|turn to"
    r"|call your|check with|visit|advis[eo]r|professional|attorney|lawyer|doctor"
    r"|resources available|emergency services|therap\w+|counsel\w+|authorities|crisis)\b",
    r"\b(?:illegal|unlawful|against the law|crime|criminal|harm(?:s|ed|ful|ing)?|danger(?:ous)?"
    r"|unsafe|violat\w+|polic(?:y|ies)"
    r"|guidelines|unethical|privacy|consent|safety|copyright\w*|injur\w+|offensive"
    r"|discriminat\w+|inappropriate|abus\w+|dishonest"
    r"|demean\w*|consequences|misuse\w*|hurt|respect\w*|terms of service|principles|rights"
    r"|sensitive|misinformation|malicious"
    r"|ethic\w*|stereotyp\w*|responsib\w+|(?:designed|trained|programmed|built|made) (?:to|for)"
    r"|knowledge cut-?off|training data|language model|an ai\b|my purpose|theft)\b",
    r"\b(?:bitte|gerne|wenden sie|wende dich|falls|stattdessen|gefährlich|verboten|illegal"
    r"|strafbar|richtlinien|verstößt|schaden)\b",
    r"\b(?:veuillez|n'hésitez|si vous|s'il vous plaît|je peux (?:vous|en revanche)|dangereux"
    r"|interdit|illégal|contraire|directives|consulte[rz])\b",
    r"\b(?:por favor|si (?:tienes|necesitas|quieres|desea|lo)|puedo (?:ayudar|ofrecer)"
    r"|peligros\w+|ilegal|prohibid\w+|políticas|consult[ae]|dañin\w+)\b",
)

# --- bare apologies, and failures that leaked into the text -----------------------------------

SORRY: Final = re.compile(
    r"^(?:oh,? |oops[,!.]* |hm+,? |um,? )?(?:(?:i(?:'m| am) |we(?:'re| are) )?(?:so |very "
    r"|really |terribly |truly )?sorry"
    r"|(?:i |we )?(?:sincerely |do |deeply )?apologi[sz]e|(?:my |our "
    r"|please accept my )?(?:sincere |deepest )?apologies|oops|whoops|uh-oh"
    r"|pardon|es tut mir (?:sehr )?leid|tut mir leid|entschuldig\w+|verzeihung"
    r"|(?:je suis |nous sommes )?(?:vraiment )?désolée?s?|je m'excuse|excusez"
    r"|(?:toutes )?mes excuses"
    r"|lo siento|lo sentimos|lo lament\w+|disculp\w+|perd[oó]n\w*|mi dispiace|scusa\w*"
    r"|desculp\w+|sinto muito|het spijt me"
    r"|抱歉|对不起|對不起|申し訳|すみません|извините|простите|przepraszam|죄송)"
)
SORRY_LATER: Final = re.compile(r"\b(?:sorry|apologi[sz]e|apologies)\b")
FAILED: Final = either(
    r"\b(?:did not|didn't|do not|don't|could not|couldn't|can't|cannot|was not able to"
    r"|wasn't able to|was unable to|(?:am|'m) unable to"
    r"|(?:am|'m) not able to|(?:am|'m) not sure (?:that )?i|failed to|having (?:trouble"
    r"|difficulty)|unable to)"
    r" ?(?:quite |fully |really |seem to |currently |be able to )?(?:understand\w*|find\w*|get\b"
    r"|catch|hear|process\w*|see any|complete"
    r"|locat\w+|retriev\w+|have|make out|follow|parse|access\w*|load\w*|determine|identify|know"
    r"|reach|connect\w*|recogni[sz]e|fetch\w*|generat\w+)",
    r"\b(?:did not|didn't|does not|doesn't)(?: seem to| appear to)? (?:contain|include|have"
    r"|provide|attach|mention|come through)\b",
    r"\b(?:something (?:(?:went|has gone|seems to have gone) wrong|broke|failed|crashed)|cut off"
    r"|start a new|another try|lost track|lost the thread|got confused|(?:am|'m) confused"
    r"|misunderstood|misread)\b",
    r"\b(?:prevented|stopped|kept|keeps|prevents) (?:me|us) from\b"
    r"|\b(?:ran|run|running) out of (?:time|memory|tokens|space|room|credits?)\b"
    r"|\blost (?:your|the|my)\b|\bsi è verificat|\briprova|\bnon ho capito|\bocorreu um"
    r"|\btente novamente|\bnão entendi|\bprobeer (?:het )?(?:later|opnieuw)|\bfout opgetreden"
    r"|\bcould(?: not|n't) be (?:generated|processed|completed|loaded|produced|retrieved|found"
    r"|delivered|created|reached)\b|\btook too long\b|\btimed out\b",
    r"\b(?:ran into|run into|encountered|experienc\w+|having|there (?:was|is|has been"
    r"|appears to be|seems to be)|facing|hit)\b.{0,20}"
    r"\b(?:problems?|issues?|errors?|trouble|difficult\w+|snag|glitch)\b",
    r"\b(?:seems?|appears?)\b.{0,30}\b(?:missing|empty|cut off|incomplete|garbled|blank"
    r"|corrupted|an? (?:error|issue|problem))\b",
    r"\bno (?:information|data|results?|record|details|attachment|file|question)\b",
    r"\btry (?:(?:that|it|this|once more) )?(?:again|later)\b"
    r"|\b(?:rephrase|reformulate|clarify|resend)\b",
    r"\bnicht (?:\w+ )?(?:verstanden|verstehen|gefunden|finden|verarbeiten)\b"
    r"|\b(?:schiefgelaufen|schief ?gegangen)\b|\bfehler (?:aufgetreten|ist)"
    r"|\bist ein (?:\w+ )?(?:fehler|problem)\b|\bkeine (?:informationen|daten)\b",
    r"\bpas (?:bien |pu )?(?:compris|comprendre|trouv\w+|d'informations?)\b|\berreur (?:s'est"
    r"|est)\b|\bs'est (?:mal )?(?:produite?|passée?)|\bréessayer\b",
    r"\bno (?:he |pude |puedo |logro )?(?:entend\w+|entiend\w+|comprend\w+|encontr\w+"
    r"|tengo (?:esa |más )?informaci\w+)|\b(?:ocurrido|producido)"
    r" un (?:error|problema)|\b(?:inténtal|intenta|intente|vuelve a intentar)",
)
REGRET: Final = re.compile(
    r"\b(?:confusion|inconvenience|mistakes?|errors?|misunderstanding|oversight|mix-?up|trouble"
    r"|frustration|incorrect|wrong"
    r"|(?:about|for) (?:that|this)|verwirrung|unannehmlichkeiten|missverständnis|fehler"
    r"|désagrément|malentendu|erreur|confusión|molestias?|inconvenientes?|malentendido)\b"
)
IDLE: Final = either(
    r"\b(?:let me know|how (?:can|may) i|please|misread|misunderst\w+|mistakes?|wrong|confus\w+"
    r"|incorrect|do better|try(?:ing)? (?:to|again)"
    r"|thank you for|i should have|you're right|you are right|bitte|veuillez|por favor)\b",
    r"\?$",
)
MENDED: Final = re.compile(
    r"\d|`|\b(?:corrected?|should (?:be|read)|here (?:is|are|it)|here's|instead|actually"
    r"|richtig\w*|korrekt\w*|correcta?|voici|aquí)\b"
)
_LATER: Final = (
    r"\b(?:try|retry|later|contact|support|administrator|persists?|again|moment|minutes?)\b"
)
LEAKED: Final = either(
    r"^(?:(?:an?|the|some) )?(?:\w+ ){0,2}error (?:has |have )?(?:occurred"
    r"|happened)\b(?:.{0,40}\b(?:request|response|message|server"
    r"|processing|generating|try|later)\b|\.?$)",
    r"^\W*error\W*(?:code\W*)?\W*(?:4\d\d|5\d\d)\b.{8,}",
    r"^\W*(?:http )?(?:(?:429|50[0234]|529)\W+)?(?:too many requests|internal server error"
    r"|bad gateway|service unavailable|gateway time-?out"
    rf"|overloaded)\b.{{0,80}}{_LATER}",
    r"^\W*error\W+.{0,40}\b(?:rate limit|quota|timed? ?out|overloaded|unavailable|api key"
    r"|connection|upstream|failed to (?:generate|fetch"
    r"|load|respond|connect)|generating|processing|request)",
    r"^upstream (?:connect|request|error|server)|^connection (?:error|refused|reset|timed out)\b",
    r"^(?:oops|whoops|uh-oh|hm+|sorry)?\W*something went wrong(?:[.!]|,(?! and)|$"
    r"| (?:while|on our|on my|with (?:your|the) request))",
    rf"^(?:the |this |our )?(?:service|server|model|system|assistant|api|network|engine)s? (?:is"
    rf"|are) (?:\w+ ){{0,2}}(?:unavailable|overloaded|busy"
    rf"|down|not available|offline|experiencing)\b.{{0,60}}(?:{_LATER}|$)",
    r"^(?:the |your )?(?:request|operation|connection|response|query) (?:has |was )?(?:timed out"
    r"|failed|aborted|could not be (?:processed|completed))"
    r"(?:[.!,:]|$| (?:while|after|before|due|because|please)\b)",
    r"^(?:rate limit|quota|token limit) (?:exceeded|reached)\b",
    r"^(?:failed|unable) to (?:generate|fetch|load|get|retrieve|parse|connect"
    r"|produce)\b.{0,50}\b(?:response|answer|reply|completion|server|model|output|result)\b",
    r"^(?:hm+|oh|oops|uh|ah)\b\W*.{0,20}\b(?:didn't work|went wrong|failed)\b",
    r"^(?:something|an? \w+|some \w+) (?:unexpected|unforeseen|strange|odd|broke|failed|crashed"
    r"|problem|issue|failure)\b.{0,40}\b(?:happened|occurred|came up|while|and)\b.{0,80}\b(?:answer"
    r"|response|request|reply|generat\w+|try|again|later)\b",
    r"^(?:i|we) (?:could(?:n't| not)|can(?:'t|not)|failed to|were unable to|was unable to) (?:load"
    r"|process|generate|fetch|retrieve|reach|complete|deliver)\b.{0,30}\b(?:answer|response|reply"
    r"|request|message|result)",
    r"^(?:the |our |your )?(?:\w+ )?(?:service|server|model|system|backend|api)s? (?:had|has|have"
    r"|encountered|ran into|hit|experienced|returned) (?:an?|some) (?:\w+ )?(?:error|problem"
    r"|issue)",
    r"^(?:your |the |this )?(?:answer|response|reply|request|message|output|content|result) could"
    r"(?: not|n't) be (?:generated|processed|completed|loaded|produced|retrieved|created)\b",
    r"^(?:i|we)(?: seem to be| am|'m| are|'re) (?:currently |now )?(?:experiencing|having"
    r"|running into|facing)\b.{0,30}\b(?:difficult\w+|problems?|issues?|trouble|errors?)\b",
    r"^(?:n/?a\W+)?(?:response|answer|result|output) (?:is )?(?:pending|unavailable|not available"
    r"|missing)\W*$",
    r"^it (?:looks like|seems|appears)(?: that| as if)? (?:your|the|this|an?) (?:\w+ )?(?:message"
    r"|question|prompt|input|request|text|files?|image|attachment|document|link)\b.{0,50}\b(?:empty|blank"
    r"|missing|incomplete|cut off|come through|included|attached|loaded?|corrupted)\b",
    r"^no response (?:was )?(?:generated|received|available)\b|^\[?(?:no (?:output|response"
    r"|content)|empty response)\]?\.?$",
    r"^es ist ein (?:\w+ )?fehler aufgetreten|^ein (?:\w+ )?fehler ist aufgetreten"
    r"|^une erreur (?:\w+ )?s'est produite"
    r"|^(?:se )?ha (?:ocurrido|producido) un error|^si è verificato un errore|^ocorreu um erro",
)

# "While I can't predict it, ...": the rest of the sentence is the answer.
CONCEDED: Final = re.compile(
    r"^(?:while|although|though|even (?:if|though)|whereas|obwohl|auch wenn|bien que|même si"
    r"|aunque|si bien)\b.{5,200}?,\s+\S"
)

# --- where none of this is a failure ----------------------------------------------------------

LETTER_HEAD: Final = re.compile(
    r"(?:dear|subject|to whom|sehr geehrte|liebe|lieber|betreff|cher|chère|objet|madame|monsieur"
    r"|estimad|querid|asunto|gentile"
    r"|prezad|from|date)\b|(?:hi|hello|hey|hallo|bonjour|hola|ciao)\b[^.!?\n]{0,30},?\n"
)
SIGNED: Final = re.compile(
    r"\n\s*(?:best|kind|warm|yours|sincerely|regards|cheers|love|with |all the best|many thanks"
    r"|mit freundlichen|viele grüße|liebe grüße|cordialement|bien à|un saludo|atentamente|saludos)"
)
ASKED_FOR: Final = either(
    r"\b(?:apolog\w+|sorry|refus\w+|declin\w+|reject\w+|turn\w* down|say(?:ing)? no|cancel\w*"
    r"|excuses?|regret\w*)\b",
    r"\b(?:entschuldig\w+|absage\w*|ablehn\w+|absagen|excus\w+|décline\w*|disculp\w+|rechaz\w+)\b",
)
